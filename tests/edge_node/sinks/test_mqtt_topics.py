"""Readings by MQTT, with a real broker that comes and goes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest
from http_receiver import until
from mqtt_broker import Broker
from ports import free_port
from sights import make_sight

from edge_node.sinks.mqtt_topics import MqttTopics
from edge_node.sinks.options import SinkOptions, mqtt_topics, published
from edge_node.sinks.outlet import Message, NotDelivered, Outlet, close_all


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("mqtt"), free_port(), "pass@word").start()
    yield broker
    broker.kill()


def url(broker: Broker, topic: str, password: str = "pass%40word") -> str:
    return f"mqtt://edge:{password}@127.0.0.1:{broker.port}/{topic}"


async def retained(broker: Broker, *topics: str) -> dict[str, bytes]:
    """What the broker keeps there for whoever comes later."""
    found: dict[str, bytes] = {}
    async with aiomqtt.Client("127.0.0.1", broker.port, username="edge", password="pass@word") as client:
        await client.subscribe([(topic, 1) for topic in topics])
        async with asyncio.timeout(60):
            async for message in client.messages:
                if str(message.topic) in topics:  # this broker sends what else it keeps too
                    found[str(message.topic)] = bytes(message.payload)
                if len(found) == len(topics):
                    break
    return found


async def test_a_camera_shows_up_in_home_assistant_with_what_it_read_last(broker: Broker) -> None:
    sink = published(SinkOptions(mqtt=url(broker, "home/dark")), "gate-1")
    assert sink is not None
    sink.sights([make_sight(1, "EXIT"), make_sight(2, "STOP <b>\x1b[31m\ud800")])
    sink.sights([make_sight(1, "EXIT", ended=True)])
    [outlet] = sink.outlets
    await asyncio.to_thread(until, lambda: outlet.counts["delivered"] == 3)
    topic, config = "home/dark/gate-1/reading", "homeassistant/sensor/lamplight_gate-1/reading/config"
    kept = await retained(broker, topic, f"{topic}/status", config)
    last = json.loads(kept[topic])
    assert (last["schema"], last["event"], last["sight"]["text"]) == (1, "new", "STOP <b>\x1b[31m\ud800")
    assert kept[f"{topic}/status"] == b"online"
    sensor = json.loads(kept[config])
    assert sensor["state_topic"] == sensor["json_attributes_topic"] == topic
    assert sensor["availability_topic"] == f"{topic}/status"
    assert sensor["value_template"] == "{{ value_json.sight.text[:255] }}"
    assert sensor["device"]["identifiers"] == ["lamplight_gate-1"] and sensor["unique_id"] == "lamplight_gate-1_reading"
    await asyncio.to_thread(sink.close)
    assert await retained(broker, f"{topic}/status") == {f"{topic}/status": b"offline"}


async def test_alerts_are_events_in_home_assistant(broker: Broker) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port, username="edge", password="pass@word") as client:
        await client.subscribe("home/gate-1/alert", qos=1)  # before another connects: this broker mixes them up
        outlet = Outlet("alerts", mqtt_topics(url(broker, "home"), "gate-1", "alert", "ha"))
        outlet.put(Message("a", b'{"event": "alert"}', "alert"))
        async with asyncio.timeout(60):
            async for message in client.messages:
                if str(message.topic) == "home/gate-1/alert":
                    break
    assert message.payload == b'{"event": "alert"}'
    config = "ha/event/lamplight_gate-1/alert/config"
    event = json.loads((await retained(broker, config))[config])
    assert event["event_types"] == ["alert"] and event["state_topic"] == "home/gate-1/alert"
    assert event["value_template"].startswith("{{ {'event_type': 'alert', 'alert': value_json.alert,")
    await asyncio.to_thread(close_all, [outlet])


async def test_a_broker_that_comes_late_and_is_killed_gets_what_waited(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_node.sinks.mqtt_topics.LONGEST_DELAY_S", 0.05)
    monkeypatch.setattr("edge_node.sinks.mqtt_topics.WAIT_S", 0.5)
    carrier = mqtt_topics(f"mqtt://edge:topsecret@127.0.0.1:{free_port}", "gate-1", "reading", "off")
    outlet = Outlet("readings", carrier, first_delay_s=0.01)
    outlet.put(Message("a", b"1"))
    await asyncio.to_thread(until, lambda: "Connection refused; trying again" in caplog.text)
    monkeypatch.setattr("edge_node.sinks.mqtt_topics.WAIT_S", 30.0)
    broker = Broker(tmp_path, free_port)
    for expected in (1, 2):
        broker.start()
        await asyncio.to_thread(until, lambda expected=expected: outlet.counts["delivered"] == expected)
        broker.kill()
        outlet.put(Message("b", b"2"))
    await asyncio.to_thread(close_all, [outlet], 0.2)
    assert outlet.counts == {"delivered": 2, "left": 1} and "topsecret" not in caplog.text


async def cannot_connect(carrier: MqttTopics, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await carrier.open()
    async with asyncio.timeout(60):
        while f"not connected: {why}" not in carrier._problem:
            await asyncio.sleep(0.01)
    monkeypatch.setattr("edge_node.sinks.mqtt_topics.WAIT_S", 0.05)
    with pytest.raises(NotDelivered, match="not connected: "):
        await carrier.send(Message("a", b"1"))
    await carrier.close()


async def test_a_wrong_password_is_said(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = mqtt_topics(url(broker, "home", "wrong"), "gate-1", "reading", "off")
    await cannot_connect(carrier, "[code:135] Not authorized", monkeypatch)


# paho leaves a socket whose handshake failed to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_tls_is_verified(
    tmp_path: Path, free_port: int, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path, free_port, certificate=certificate).start()
    address = f"mqtts://127.0.0.1:{free_port}"
    strict = mqtt_topics(address, "gate-1", "reading", "off")
    await cannot_connect(strict, "[SSL: CERTIFICATE_VERIFY_FAILED]", monkeypatch)
    monkeypatch.setattr("edge_node.sinks.mqtt_topics.WAIT_S", 30.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    trusting = mqtt_topics(address, "gate-1", "reading", "off")
    await trusting.open()
    await trusting.send(Message("a", b"1"))
    await trusting.close()
    broker.kill()
