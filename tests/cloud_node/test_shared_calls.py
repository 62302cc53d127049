import asyncio

import pytest

from cloud_node.shared_calls import SharedCalls


class Maker:
    """Numbers its calls; each waits until `gate` is open."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, key: str) -> int:
        self.calls.append(key)
        number = len(self.calls)
        await self.gate.wait()
        if key == "bad":
            raise ValueError(number)
        return number


async def test_who_asks_for_the_same_shares_one_call_and_its_answer_holds_for_a_while() -> None:
    maker = Maker()
    shared = SharedCalls(maker, 1.0)
    asking = [asyncio.create_task(shared("a")) for _ in range(50)] + [asyncio.create_task(shared("b"))]
    await asyncio.sleep(0)
    asking[0].cancel()  # the others get their answer
    maker.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert maker.calls == ["a", "b"] and answers[1:] == [1] * 49 + [2]
    assert await shared("a") == 1
    while await shared("a") == 1:
        await asyncio.sleep(0.01)
    assert maker.calls == ["a", "b", "a"]
    while shared._tasks:
        await asyncio.sleep(0.01)


async def test_a_failure_is_for_all_who_asked_and_is_not_remembered() -> None:
    maker = Maker()
    maker.gate.set()
    shared = SharedCalls(maker, 60)
    failed = await asyncio.gather(shared("bad"), shared("bad"), return_exceptions=True)
    assert [str(error) for error in failed] == ["1", "1"]
    with pytest.raises(ValueError, match="2"):
        await shared("bad")
