"""Whether readings and alerts can go where they are to go: looked at, and nothing delivered."""

from pathlib import Path

import pytest
from http_receiver import Receiver
from mqtt_broker import Broker
from results import running_server

from common.settings import load
from edge_node.check.finding import Group, Mark
from edge_node.check.sinks import check_sinks
from edge_node.settings import EdgeSettings


async def findings(*flags: str) -> dict[str, tuple[Mark, str]]:
    found = Group("sinks")
    await check_sinks([load(EdgeSettings, ["--camera", "0", "--edge", "e", *flags], {})], found)
    return {finding.name: (finding.mark, finding.value) for finding in found.findings}


async def test_what_works(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    broker = Broker(tmp_path, free_port, "pw").start()
    with Receiver() as receiver:
        async with running_server() as server:
            found = await findings(
                "--webhook", receiver.url, "--readings-nats", server.url, "--mqtt", f"mqtt://edge:pw@127.0.0.1:{free_port}",
                "--alert", "exit", "--alert-command", "true",
            )  # fmt: skip
    broker.kill()
    assert [mark for mark, _ in found.values()] == [Mark.OK] * 4 and not receiver.posts
    values = {name.split()[2]: value for name, (_, value) in found.items()}
    assert values == {
        "webhook": "answers, 501 to a question that delivers nothing",
        "lamplight.readings.e": "takes this login",
        "lamplight/e": "takes this login",
        "command": "can be run",
    }


async def test_what_does_not(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("edge_node.sinks.nats_subject.WAIT_S", 0.3)
    nobody = f"me:topsecret@127.0.0.1:{free_port}"
    found = await findings(
        "--webhook", f"http://{nobody}/token", "--readings-nats", f"nats://{nobody}", "--mqtt", f"mqtt://{nobody}"
    )
    assert [mark for mark, _ in found.values()] == [Mark.FAIL] * 3
    assert "topsecret" not in str(found) and "token" not in str(found)
    assert await findings() == {}
    [(mark, value)] = (await findings("--alert", "/(/")).values()
    assert mark is Mark.FAIL and "is no regular expression" in value
    [(mark, value)] = (await findings("--alert", "exit", "--alert-command", "no-such-program")).values()
    assert mark is Mark.FAIL and "there is no program 'no-such-program'" in value
