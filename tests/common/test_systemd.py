import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from notify import NotifySocket
from results import until

from common.systemd import Notifier, report


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Callable[..., NotifySocket]]:
    made: list[NotifySocket] = []

    def make(path: str = "", **options: float) -> NotifySocket:
        made.append(NotifySocket(path or tmp_path / "notify", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("abstract", [False, True])
async def test_a_message_arrives_whole(systemd: Callable[..., NotifySocket], abstract: bool) -> None:
    manager = systemd(f"@lamplight-{uuid.uuid4().hex}" if abstract else "")
    assert Notifier(manager.environ).send(READY="1", STATUS="two\nlines: 12 frames, 31 °C")
    await until(lambda: len(manager.fields) == 2)
    assert manager.fields == [("READY", "1"), ("STATUS", "two lines: 12 frames, 31 °C")]


def test_without_a_manager_nothing_is_sent_and_nothing_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not Notifier({}).enabled and not Notifier({}).send(READY="1")
    assert not Notifier({"NOTIFY_SOCKET": "vsock:2:1"}).enabled
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    caplog.clear()
    assert not gone.send(READY="1") and not gone.send(READY="1")
    assert len(caplog.records) == 1 and "No such file" in caplog.text


def test_the_watchdog_is_for_the_process_that_is_named(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "30000000"}
    assert Notifier(environ).watchdog_s == 30
    assert Notifier(environ | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 30
    assert Notifier(environ | {"WATCHDOG_PID": "1"}).watchdog_s == 0


async def test_ready_once_alive_while_moving_and_stopping_at_the_end(
    systemd: Callable[..., NotifySocket], caplog: pytest.LogCaptureFixture
) -> None:
    manager, stop, state = systemd(watchdog_s=0.04), asyncio.Event(), {"ready": False, "stuck": ""}
    notifier = Notifier(manager.environ)
    running = asyncio.create_task(
        report(
            notifier,
            stop,
            ready=lambda: bool(state["ready"]),
            stuck=lambda limit_s: str(state["stuck"]),
            status=lambda: "fine",
        )
    )
    await until(lambda: manager.count("WATCHDOG") > 2)
    assert not manager.count("READY") and manager.values("STATUS") == ["fine"]
    state["ready"] = True
    await until(lambda: manager.count("READY") > 0)
    with caplog.at_level(logging.ERROR):
        state["stuck"] = "reader has stood still for 61 s"
        await until(lambda: "reader has stood still" in caplog.text)
        silent_from = manager.count("WATCHDOG")
        await asyncio.sleep(0.2)
        assert manager.count("WATCHDOG") <= silent_from + 1, "one may have been on its way"
    assert len(caplog.records) == 1
    state["stuck"] = ""
    await until(lambda: manager.count("WATCHDOG") > silent_from + 1)
    stop.set()
    await until(lambda: manager.count("STOPPING") == 1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert manager.count("READY") == manager.count("STOPPING") == 1


async def test_a_loop_that_stands_still_is_silent(systemd: Callable[..., NotifySocket]) -> None:
    manager = systemd(watchdog_s=0.04)
    running = asyncio.create_task(
        report(
            Notifier(manager.environ),
            asyncio.Event(),
            ready=lambda: True,
            stuck=lambda limit_s: "",
            status=lambda: "",
        )
    )
    await until(lambda: manager.count("WATCHDOG") > 1)
    await asyncio.to_thread(lambda: None)
    release = asyncio.get_running_loop().time() + 0.3
    before = manager.count("WATCHDOG")
    while asyncio.get_running_loop().time() < release:
        pass  # a callback that hogs the loop
    assert manager.count("WATCHDOG") <= before + 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
