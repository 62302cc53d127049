"""Alerts: once in each sight, kept, shown, delivered, by the next run if need be."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from http_receiver import Receiver, status, until
from rich.console import Console
from sights import make_sight

from common.errors import SettingsError
from common.settings import load
from edge_node.alerts import journal
from edge_node.alerts.alerts import Alerts, area_of
from edge_node.alerts.options import AlertOptions, alerts
from edge_node.areas import Area
from edge_node.gate import Gate, GateMode
from edge_node.record import Bound, earlier
from edge_node.settings import EdgeSettings
from edge_node.sinks import SharedSink, TerminalLine
from edge_node.sinks.options import SinkOptions

ROOT = Path(__file__).resolve().parents[3]


class Shows:
    def __init__(self) -> None:
        self.told: list[Mapping[str, Any]] = []

    def write(self, shown: object) -> None: ...

    def alerted(self, told: Mapping[str, Any]) -> None:
        self.told.append(told)

    def close(self) -> None: ...


def watchful(folder: Path, *words: str, shows: tuple = (), **options: Any) -> Alerts:
    made = alerts(AlertOptions(alert=words, **options), SinkOptions(), "gate-1", folder, shows)
    assert made is not None
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]


def test_each_pattern_raises_one_alert_in_each_sight(tmp_path: Path) -> None:
    shows = Shows()
    sink = watchful(tmp_path, "exit", "fire", shows=(shows,))
    sink.sights([make_sight(1, "EX"), make_sight(2, "stop")])
    sink.sights([make_sight(1, "EXIT")])
    sink.sights([make_sight(1, "FIRE EXIT")])
    sink.sights([make_sight(1, "EXIT", ended=True), make_sight(3, "fire exit", ended=True)])
    sink.close()
    raised = [(told["sight"]["id"], told["alert"]) for told in lines(tmp_path)]
    assert raised == [("5f0c-1", "exit"), ("5f0c-1", "fire"), ("5f0c-3", "exit"), ("5f0c-3", "fire")]
    assert len({told["id"] for told in lines(tmp_path)}) == 4 and sink.counts == {"exit": 2, "fire": 2}
    assert [told["id"] for told in shows.told] == [told["id"] for told in lines(tmp_path)]
    assert lines(tmp_path)[0]["schema"] == 1 and lines(tmp_path)[0]["text"] == "EXIT"


def test_what_was_read_while_an_expression_rested_is_looked_at_once_it_does_not(tmp_path: Path) -> None:
    now = [0.0]
    sink = watchful(tmp_path, "/^(a|aa)+$|EXIT/")
    [expression] = sink._patterns
    expression._clock = lambda: now[0]
    sink.sights([make_sight(1, "a" * 80 + "!"), make_sight(2, "EXIT")])
    assert not sink.counts
    now[0] = 11.0
    sink.sights([make_sight(2, "EXIT")])
    assert sum(sink.counts.values()) == 1


def test_a_journal_that_has_grown_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BOUND", Bound(mib=16 / 1024))
    sink = watchful(tmp_path, "exit", alert_webhook="http://127.0.0.1:9/")
    sink.sights([make_sight(number, "EXIT") for number in range(20)])
    sink.close()
    assert len(earlier(tmp_path / "alerts.jsonl")) > 2
    again = journal.Journal(tmp_path / "alerts.jsonl")
    [waiting] = again.undelivered(["webhook"]).values()
    assert len(waiting) == 20, "what may be undelivered is still there"
    again.close()


def test_while_the_sight_lives_frames_are_essential(tmp_path: Path) -> None:
    now = time.time_ns()
    sink, gate = watchful(tmp_path, "exit"), Gate(GateMode.OFF)
    sink.gate = gate
    sink.sights([make_sight(1, "EXIT", last_unix_ns=now), make_sight(2, "stop", last_unix_ns=now)])
    assert gate.watched == (Area(0.08, 0.23, pytest.approx(0.19), pytest.approx(0.19)),)
    moved = ((0.0, 0.0), (20.0, 0.0), (20.0, 20.0), (0.0, 20.0))
    sink.sights([make_sight(1, "EX1T", last_unix_ns=now, polygon=moved)])
    assert gate.watched == (Area(0.0, 0.0, pytest.approx(0.07), pytest.approx(0.12)),)
    sink.sights([make_sight(1, "EXIT", last_unix_ns=now, ended=True)])
    assert gate.watched == ()
    sink.sights([make_sight(4, "EXIT", last_unix_ns=now - 3600 * 10**9)])  # read from the spool
    assert gate.watched == () and sink.counts["exit"] == 2
    sink.close()


def test_an_area_lies_in_the_frame() -> None:
    outside = ((-50.0, -1.0), (900.0, 300.0), (float(500), 10.0))
    assert area_of(make_sight(polygon=outside)) == Area(0.0, 0.0, 1.0, 1.0)
    assert area_of(make_sight(polygon=(), size=(0, 0))).is_fraction


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.append("tests/support")
from sights import make_sight
from edge_node.alerts.options import AlertOptions, alerts
from edge_node.sinks.options import SinkOptions
sink = alerts(AlertOptions(alert=("exit",), alert_webhook=sys.argv[2]), SinkOptions(), "gate-1", Path(sys.argv[1]))
sink.sights([make_sight(1, "EXIT"), make_sight(2, "EXIT")])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_did_not_arrive_before_a_kill_is_sent_by_the_next_run(tmp_path: Path, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/hook"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), url], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    with (tmp_path / "alerts.jsonl").open("ab") as file:
        file.write(b'{"event": "alert", "id": "cut o')
    with Receiver(port=free_port) as receiver:
        second = watchful(tmp_path, "exit", alert_webhook=url)
        second.sights([make_sight(3, "EXIT")])
        until(lambda: len(receiver.posts) == 3)
        second.close()
        third = watchful(tmp_path, "exit", alert_webhook=url)
        third.close()
    told = [json.loads(post.body) for post in receiver.posts]
    assert [alert["sight"]["id"] for alert in told] == ["5f0c-1", "5f0c-2", "5f0c-3"]
    assert [post.headers["Idempotency-Key"] for post in receiver.posts] == [alert["id"] for alert in told]


def test_what_is_too_old_or_goes_elsewhere_is_not_sent_again(tmp_path: Path) -> None:
    old = {"event": "alert", "id": "old", "raised_unix_ns": time.time_ns() - 25 * 3600 * 10**9}
    (tmp_path / "alerts.jsonl").write_text(json.dumps(old) + "\nnull\n[]\n")
    with Receiver() as receiver:
        sink = watchful(tmp_path, "exit", alert_webhook=receiver.url, alert_command="true")
        sink.sights([make_sight(1, "EXIT")])
        until(lambda: len(receiver.posts) == 1)
        sink.close()
    delivered = [line["to"] for line in lines(tmp_path)[3:] if line["event"] == "delivered"]
    assert sorted(delivered) == ["command", "webhook"]


def test_a_webhook_that_is_down_holds_up_neither_sights_nor_the_command(tmp_path: Path) -> None:
    with Receiver(status(503)) as receiver:
        sink = watchful(tmp_path, "exit", alert_webhook=receiver.url, alert_command="true")
        sink.sights([make_sight(number, "EXIT") for number in range(20)])
        until(lambda: sink._outlets["command"].counts["delivered"] == 20)
        sink.close()
    assert sink._outlets["webhook"].counts["left"] == 20


def test_a_full_disk_costs_the_line_and_not_the_alert(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "alerts.jsonl").symlink_to("/dev/full")
    with Receiver() as receiver:
        sink = watchful(tmp_path, "exit", alert_webhook=receiver.url)
        sink.sights([make_sight(1, "EXIT")])
        until(lambda: len(receiver.posts) == 1)
        sink.close()
    assert "cannot write" in caplog.text and "No space left" in caplog.text


def test_the_terminal_shows_alerts_and_no_markup_in_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    console = Console(width=200, record=True, force_terminal=False)
    line = TerminalLine(console=console)
    sink = watchful(tmp_path, "exit", shows=(SharedSink(line),))
    sink.sights([make_sight(1, "[red]EXIT[/red]\x1b[2J"), make_sight(2, "EXIT [/bold] 2")])
    assert line.line().endswith("2 alerts, the last: EXIT [/bold] 2")
    sink.close()
    line.close()
    assert "EXIT [/bold] 2" in console.export_text()
    assert r"alert: exit: [red]EXIT[/red]\x1b[2J (gate-1" in caplog.text and "\x1b[2J" not in caplog.text


def given(*flags: str, **environ: str) -> EdgeSettings:
    return load(EdgeSettings, ["--camera", "0", *flags], environ)


def test_settings_from_flags_environment_and_file(tmp_path: Path) -> None:
    assert given("--alert", "a,b", "--alert", "/x{1,2}/").alerts.alert == ("a,b", "/x{1,2}/")
    assert given(LAMPLIGHT_ALERT="exit\nno parking").alerts.alert == ("exit", "no parking")
    file = tmp_path / "edge.toml"
    file.write_text('[alerts]\nalert = ["exit", "a,b"]\n[sinks]\nmqtt = "mqtt://hub/home"\n')
    assert given("--config", str(file)).alerts.alert == ("exit", "a,b")
    assert alerts(AlertOptions(), SinkOptions(), "gate-1", tmp_path) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alert-command", "true"], "add --alert WORD or --alert-file"),
        (["--alert", "x", "--alert-webhook", "hub:80"], "^--alert-webhook: as http://host"),
        (["--alert", "x", "--alert-nats", "http://hub"], "^--alert-nats: as nats://host"),
        (["--webhook", "mqtt://hub"], "^--webhook: "),
        (["--readings-nats", "nats://"], "^--readings-nats: "),
        (["--mqtt", "mqtt://hub/a/+/b"], "^--mqtt: a topic to publish on has no #"),
        (["--alert", "x", "--alert-timeout-s", "0"], "^--alert-timeout-s 0: at least 0.1"),
    ],
)
def test_settings_that_cannot_be(flags: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        given(*flags)
