import asyncio

import pytest

from common.flow import BoundedQueue, Policy, QueueClosed


async def test_drop_oldest_keeps_the_newest_and_counts() -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", 2, Policy.DROP_OLDEST)
    assert [await queue.put(number) for number in range(4)] == [None, None, 0, 1]
    assert queue.dropped == 2
    assert [await queue.get(), await queue.get()] == [2, 3]


async def test_wait_holds_the_producer_until_there_is_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", 1, Policy.WAIT)
    await queue.put(1)
    second = asyncio.create_task(queue.put(2))
    await asyncio.sleep(0)
    assert not second.done()
    assert await queue.get() == 1
    await second
    assert await queue.get() == 2
    assert queue.dropped == 0


async def test_close_lets_out_what_is_inside_and_nothing_in() -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", 3, Policy.WAIT)
    await queue.put(1)
    await queue.put(2)
    await queue.close()
    with pytest.raises(QueueClosed):
        await queue.put(3)
    assert [item async for item in queue] == [1, 2]


async def test_close_wakes_who_waits() -> None:
    full: BoundedQueue[int] = BoundedQueue("full", 1, Policy.WAIT)
    empty: BoundedQueue[int] = BoundedQueue("empty", 1, Policy.WAIT)
    await full.put(1)
    waiting = [asyncio.create_task(full.put(2)), asyncio.create_task(empty.get())]
    await asyncio.sleep(0)
    await full.close()
    await empty.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, QueueClosed) for result in results)


def test_a_queue_needs_room() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BoundedQueue("q", 0, Policy.WAIT)


async def test_the_first_is_seen_before_it_is_taken() -> None:
    queue: BoundedQueue[str] = BoundedQueue("q", 1, Policy.DROP_OLDEST)
    seeing = asyncio.create_task(queue.first())
    await queue.put("a")
    assert await seeing == await queue.first() == "a" and len(queue) == 1
    gone = asyncio.create_task(queue.gone("a"))
    await asyncio.sleep(0)
    assert not gone.done()
    await queue.put("b")
    await gone
    assert not await queue.take("a"), "a newer one is there"
    assert await queue.take("b") and len(queue) == 0
    await queue.close()
    with pytest.raises(QueueClosed):
        await queue.first()
