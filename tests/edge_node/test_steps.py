import asyncio

import pytest

from edge_node.steps import Steps


async def test_a_step_that_never_ends_is_named() -> None:
    steps, never = Steps(), asyncio.Event()
    assert not steps.stuck(0.0)
    hanging = asyncio.create_task(steps.watch("reader", never.wait()))
    await asyncio.sleep(0.02)
    assert steps.stuck(0.01).startswith("reader has stood still")
    assert not steps.stuck(60.0)
    never.set()
    assert await hanging is True
    assert not steps.stuck(0.0)


async def test_a_step_that_fails_or_is_cancelled_is_over() -> None:
    steps = Steps()

    async def fail() -> None:
        raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        await steps.watch("pack", fail())
    cancelled = asyncio.create_task(steps.watch("pack", asyncio.sleep(60)))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert not steps.stuck(0.0)
