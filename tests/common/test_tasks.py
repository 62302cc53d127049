"""Tasks that swallow a cancellation, as within nats-py."""

import asyncio
import logging

import pytest

from common import tasks as module
from common.tasks import Uninterrupted, end_tasks, run_all


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.05)


class Deaf:
    """Goes on after so many cancellations."""

    def __init__(self, swallows: int) -> None:
        self.left, self.running, self.over = swallows, asyncio.Event(), False

    async def run(self) -> None:
        while True:
            try:
                self.running.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not self.left:
                    self.over = True
                    raise
                self.left -= 1


async def test_what_swallows_a_cancellation_is_ended() -> None:
    one, two = Deaf(2), Deaf(0)
    tasks = [asyncio.create_task(each.run()) for each in (one, two)]
    await asyncio.gather(one.running.wait(), two.running.wait())
    async with asyncio.timeout(30):
        await end_tasks(tasks)
    assert one.over and two.over


async def test_who_ends_tasks_leaves_none_behind_when_cancelled_meanwhile() -> None:
    part = Deaf(3)
    inner = asyncio.create_task(part.run())
    await part.running.wait()
    outer = asyncio.create_task(end_tasks([inner]))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end_tasks([outer])
    assert part.over and outer.cancelled()


async def test_what_goes_wrong_on_the_way_out_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def leave_badly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("it broke as it was closed")

    task = asyncio.create_task(leave_badly(), name="part")
    await asyncio.sleep(0)
    with caplog.at_level(logging.DEBUG, "common.tasks"):
        await end_tasks([task])
    assert "name='part'" in caplog.text and "OSError('it broke as it was closed')" in caplog.text


async def test_what_gathers_others_is_ended_too() -> None:
    async def fails() -> None:
        raise LookupError

    together = asyncio.gather(fails(), asyncio.sleep(600))
    with pytest.raises(LookupError):
        await together
    await end_tasks([together])  # type: ignore[list-item]


async def test_run_all_is_ended_by_a_single_cancellation() -> None:
    parts = [Deaf(1), Deaf(0)]
    task = asyncio.create_task(run_all((part.run() for part in parts), "part"))
    await asyncio.gather(*(part.running.wait() for part in parts))
    task.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert all(part.over for part in parts)


async def test_one_that_fails_ends_the_others_and_is_raised() -> None:
    part = Deaf(1)

    async def fail() -> None:
        await part.running.wait()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        async with asyncio.timeout(30):
            await run_all([part.run(), fail()], "part")
    assert part.over


async def test_run_all_waits_for_all() -> None:
    seen = []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    await run_all(map(note, range(3)), "note")
    assert sorted(seen) == [0, 1, 2]


async def test_a_part_that_cancels_itself_ends_the_others() -> None:
    part = Deaf(0)

    async def leave() -> None:
        await part.running.wait()
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await run_all([part.run(), leave()], "part")
    assert part.over


async def test_nothing_to_run_is_over_at_once() -> None:
    await run_all([], "nothing")


async def test_work_goes_on_to_its_end_though_nobody_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    work, go, unwanted = Uninterrupted(), asyncio.Event(), list[int]()

    async def made(number: int) -> int:
        await go.wait()
        return 12 // number

    tasks = [asyncio.create_task(work.result(made(number), unwanted.append)) for number in (1, 2, 0)]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    assert await asyncio.wait(tasks[1:]) and not unwanted
    go.set()
    assert await tasks[0] == 12
    while work._tasks:
        await asyncio.sleep(0)
    assert unwanted == [6] and "modulo by zero" in caplog.text, "an error is said all the same"

    go.clear()
    waiting = asyncio.create_task(work.result(made(3), unwanted.append))
    await asyncio.sleep(0)
    await work.end()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert unwanted == [6] and not work._tasks
