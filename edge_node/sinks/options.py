"""Where readings go beyond this machine, as settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.settings import option
from edge_node.sinks.addresses import MQTT, WEB, check_nats, parse_address

if TYPE_CHECKING:
    from common.nats_connection import Login
    from edge_node.sinks.mqtt_topics import MqttTopics
    from edge_node.sinks.outlet import Carrier
    from edge_node.sinks.published import Published

OFF: Final = "off"
MQTT_TOPIC: Final = "lamplight"


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """Where readings go beyond this machine (docs/sinks.md)."""

    webhook: str = option("", "POST readings to this address, as JSON", metavar="URL", secret=True)
    webhook_secret_file: Path | None = option(
        None, "sign what is posted with the secret in here, or with LAMPLIGHT_WEBHOOK_SECRET", metavar="FILE"
    )
    readings_nats: str = option(
        "", "publish readings on NATS, as lamplight.readings.<edge>", metavar="URL", secret=True
    )
    mqtt: str = option(
        "", "publish readings by MQTT: mqtt://name:password@host/topic, or mqtts:// for TLS", metavar="URL", secret=True
    )
    mqtt_discovery: str = option(
        "homeassistant",
        "topic under which Home Assistant looks for new devices; off = announce nothing",
        metavar="TOPIC",
    )

    def __post_init__(self) -> None:
        check_addresses("", self.webhook, self.readings_nats, self.mqtt)


def check_addresses(kind: str, webhook: str, nats: str, mqtt: str) -> None:
    """Raises ValueError that names the flag, `--mqtt` or `--<kind>-mqtt`, and not the address."""
    prefix = f"--{kind}-" if kind else "--"
    if webhook:
        parse_address(webhook, f"{prefix}webhook", WEB)
    if nats:
        check_nats(nats, f"--{kind or 'readings'}-nats")
    if mqtt:
        topic = parse_address(mqtt, f"{prefix}mqtt", MQTT).path
        if set("#+\0") & set(topic):
            raise ValueError(f"{prefix}mqtt: a topic to publish on has no # and no +")


def carriers(given: SinkOptions, edge: str, login: "Callable[[], Login] | None" = None) -> "list[Carrier]":
    """The ways out of these settings.

    Args:
        login: of an enrolled edge, to NATS.

    Raises:
        SettingsError: the secret cannot be used.
    """
    from edge_node.sinks.nats_subject import READINGS, NatsSubject
    from edge_node.sinks.webhook import Webhook, read_secret

    made: list[Carrier] = []
    if given.webhook:
        made.append(Webhook(given.webhook, read_secret(given.webhook_secret_file)))
    if given.readings_nats:
        made.append(NatsSubject(given.readings_nats, READINGS, edge, login))
    if given.mqtt:
        made.append(mqtt_topics(given.mqtt, edge, "reading", given.mqtt_discovery))
    return made


def published(given: SinkOptions, edge: str, login: "Callable[[], Login] | None" = None) -> "Published | None":
    """The sink of these settings; None where none is asked for. Raises as `carriers`."""
    from edge_node.sinks.outlet import Outlet
    from edge_node.sinks.published import Published

    made = carriers(given, edge, login)
    return Published([Outlet("readings", carrier) for carrier in made]) if made else None


def mqtt_topics(url: str, edge: str, what: str, discovery: str) -> "MqttTopics":
    """`<topic>/<edge>/reading` and `.../ended`, or `.../alert`."""
    from edge_node.sinks import home_assistant
    from edge_node.sinks.mqtt_topics import MqttTopics

    address = parse_address(url, "--mqtt", MQTT)
    base = f"{address.path or MQTT_TOPIC}/{edge}"
    status = f"{base}/{what}/status"
    announce = home_assistant.last_reading if what == "reading" else home_assistant.alert_event
    hello = [] if discovery == OFF else [announce(discovery, edge, f"{base}/{what}", status)]
    return MqttTopics(address, f"lamplight-{edge}-{what}", base, status, hello)
