"""A thread that may be left behind."""

import asyncio
import logging
import os
import threading

import pytest

from cloud_node.device_thread import DeviceThread


async def test_calls_are_made_in_order_on_one_thread() -> None:
    thread = DeviceThread("device 7")
    answers = await asyncio.gather(*(thread.call(lambda n=n: (n, threading.current_thread().name)) for n in range(5)))
    assert answers == [(n, "device 7") for n in range(5)]
    thread.leave()
    assert await thread.ended(60)


async def test_errors_come_to_the_caller_and_the_thread_goes_on() -> None:
    thread = DeviceThread("device")
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        await thread.call(lambda: exit(3))
    assert await thread.call(lambda: None) is None
    thread.leave()
    assert await thread.ended(60)


async def test_a_call_that_hangs_is_left_behind() -> None:
    thread, release = DeviceThread("device"), threading.Event()
    hanging = thread.call(lambda: release.wait(60))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await hanging
    thread.leave()
    assert not await thread.ended(0.05)
    release.set()
    assert await thread.ended(60)


def test_an_answer_after_the_loop_ended_is_nobodys() -> None:
    release = threading.Event()

    async def leave() -> DeviceThread:
        thread = DeviceThread("device")
        thread.call(lambda: release.wait(60))
        thread.leave()
        return thread

    thread = asyncio.run(leave())
    release.set()
    assert asyncio.run(thread.ended(60))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform pins no threads")
async def test_a_processor_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        thread = DeviceThread("device", frozenset([100_000]))
        assert await thread.call(lambda: len(os.sched_getaffinity(0))) == len(os.sched_getaffinity(0))
    assert "processors 100000" in caplog.text
    thread.leave()
    assert await thread.ended(60)
