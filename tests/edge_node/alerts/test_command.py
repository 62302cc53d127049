"""Commands that are run for alerts: real ones."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest
from sights import make_sight

from common.errors import SettingsError
from edge_node.alerts.alert import Alert, message_of
from edge_node.alerts.command import OUTPUT_BYTES, Command
from edge_node.sinks.outlet import Message, NotDelivered, Outlet, close_all


def message(text: str = "EXIT") -> Message:
    return message_of(Alert("exit", make_sight(text=text), 1).to_json())


def python(program: str, timeout_s: float = 60.0) -> Command:
    return Command(f"'{sys.executable}' -c '{program}'", timeout_s)


@pytest.mark.parametrize("text", ["EXIT", "$(touch pwned); `id` && x", "'\"; rm -rf *\n", "a\0b\x1b[31m", "\ud800 ü"])
async def test_what_was_read_is_data_in_the_environment_and_on_the_input(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMPLIGHT_WEBHOOK_SECRET", "whsec_topsecret")
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    program = 'import os, sys; open(os.environ["OUT"], "w").write(ascii((dict(os.environ), sys.stdin.read())))'
    await python(program).send(message(text))
    environment, given = eval((tmp_path / "out").read_text())
    assert json.loads(given)["text"] == text
    assert environment["LAMPLIGHT_TEXT"] == text.replace("\0", "").replace("\ud800", "?")
    about = ("LAMPLIGHT_ALERT", "LAMPLIGHT_EDGE", "LAMPLIGHT_NAME", "LAMPLIGHT_CONFIDENCE")
    assert [environment[name] for name in about] == ["exit", "gate-1", "camera 0", "0.9"]
    assert environment["PATH"] == os.environ["PATH"] and "topsecret" not in str(environment)
    assert os.listdir(tmp_path) == ["out"]


async def test_its_output_is_logged_safely_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    await python('print("rang \\x1b[31m"); print("x" * 10**6)').send(message())
    assert "rang \\x1b[31m" in caplog.text and "x" * 100 in caplog.text and len(caplog.text) < 2 * OUTPUT_BYTES


async def test_a_command_that_fails_is_no_delivery() -> None:
    with pytest.raises(NotDelivered, match="ends with code 3"):
        await python("raise SystemExit(3)").send(message())


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = f"sh -c 'sleep 3600 & echo $! $$ > \"{pids}\"; sleep 3600'"
    with pytest.raises(NotDelivered, match=r"took longer than 0\.5 s and was ended"):
        await Command(line, 0.5).send(message())
    for pid in pids.read_text().split() if pids.exists() else ():
        await asyncio.to_thread(wait_gone, int(pid))


def wait_gone(pid: int) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} lives on")


async def test_one_that_leaves_something_behind_or_reads_nothing_does_not_hold_up_the_next() -> None:
    await Command("sh -c 'sleep 3600 & exit 0'", 60).send(message("x" * 10**6))
    await Command("true", 60).send(message())


@pytest.mark.parametrize("line", ["/nowhere/ring", "no-such-program-here --loud", "'", "   ", __file__])
def test_a_command_that_cannot_be_run_is_said_at_the_start(line: str) -> None:
    with pytest.raises(SettingsError, match="--alert-command: "):
        Command(line, 1.0)


async def test_a_program_that_went_away_is_no_delivery(tmp_path: Path) -> None:
    program = tmp_path / "ring"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    command = Command(str(program), 60.0)
    await command.send(message())
    program.unlink()
    with pytest.raises(NotDelivered, match="cannot be run"):
        await command.send(message())


def test_some_run_at_once_and_what_still_runs_ends_with_the_node(tmp_path: Path) -> None:
    line = f"sh -c 'echo $$ > \"{tmp_path}/$LAMPLIGHT_TEXT\"; exec sleep 3600'"
    outlet = Outlet("alerts", Command(line, 3600.0), workers=2)
    for text in "abc":
        outlet.put(message(text))
    deadline_s = time.monotonic() + 60
    while len([file for file in tmp_path.iterdir() if file.read_text()]) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    close_all([outlet], flush_s=0.1)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"] and outlet.counts == {"left": 3}
    for name in "ab":
        wait_gone(int((tmp_path / name).read_text()))
