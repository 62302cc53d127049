"""Several devices, some of which fail."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from devices import House, PlainEngine, make_job
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_node.restarts import RestartLimit
from common.errors import DeviceLost, OutOfDeviceMemory, WeightsError
from common.frame import Outcome, Priority
from common.pixels import RawImage

NEVER = RestartLimit(most=0)


def lost(images: Sequence[RawImage]) -> None:
    raise DeviceLost("gone")


async def test_devices_share_the_work() -> None:
    both = threading.Barrier(2)  # each batch waits for one on the other device
    house = House(*[lambda: PlainEngine(lambda images: both.wait(60) and None)] * 2, max_frames=1)
    house.submit(*map(make_job, range(6)))
    async with house.running():
        await house.settled()
        assert house.supervisor.devices == 2
    assert set(house.outcomes().values()) == {Outcome.ENHANCED}


async def test_a_lost_device_does_not_hold_up_the_others() -> None:
    house = House(lambda: PlainEngine(lost), PlainEngine, max_frames=1, restarts=NEVER)
    async with house.running() as running:
        await house.until(lambda: house.supervisor.devices == 2)
        house.submit(*map(make_job, range(6)))
        await house.settled()
        await house.until(lambda: house.supervisor.devices == 1)
        house.submit(*map(make_job, range(6, 12)))
        await house.settled()
        assert not running.done() and house.health == [True]
    assert len(house.returned) == 1 and len(house.results) == 11


async def test_while_no_device_works_nothing_waits_and_the_last_loss_is_raised() -> None:
    gate = threading.Event()

    def hold(images: Sequence[RawImage]) -> None:
        assert gate.wait(60)
        raise DeviceLost("gone")

    house = House(lambda: PlainEngine(hold), max_frames=1, restarts=NEVER)
    house.submit(make_job(0))
    async with house.running() as running:
        await house.until(lambda: house.supervisor.pending)
        house.submit(make_job(1), make_job(2, priority=Priority.ESSENTIAL))
        gate.set()
        with pytest.raises(DeviceLost, match="gone"):
            await running
        assert set(house.returned) == {0, 1, 2} and house.health == [True, False]


async def test_what_has_expired_in_the_queue_is_given_back_with_it() -> None:
    house = House(PlainEngine)
    house.submit(make_job(0))
    house.submit(make_job(1), expires_ns=time.monotonic_ns())
    house.supervisor._return_queue("stopping")
    assert house.returned == {0: "stopping", 1: "stopping"} and house.credits == {0, 1} and not len(house.scheduler)
    await house.supervisor.close()


async def test_weights_that_do_not_fit_leave_every_device_as_it_was() -> None:
    class Choosy(PlainEngine):
        def reload(self, preset: str, weights: Path | None) -> str:
            if weights is None:
                raise WeightsError("they do not fit")
            return super().reload(preset, weights)

    house = House(Choosy, Choosy)
    async with house.running():
        await house.until(lambda: house.supervisor.devices == 2)
        with pytest.raises(WeightsError, match="do not fit"):
            await house.supervisor.reload("plain", None)
        assert [worker.models["plain"] for worker in house.workers] == ["plain@1", "plain@1"]
        assert await house.supervisor.reload("plain", Path("b")) == "plain@b"
        assert [worker.models["plain"] for worker in house.workers] == ["plain@b", "plain@b"]


async def test_a_device_that_is_not_there_at_the_start_is_told() -> None:
    def build() -> PlainEngine:
        raise WeightsError("no such file")

    house = House(build)
    with pytest.raises(WeightsError, match="no such file"):
        await house.supervisor.start()
    await house.supervisor.close()


FAULTS = st.sampled_from(["", "", "", "memory", "lost", "not numbers", "poison", "slow", "stuck"])


@settings(max_examples=examples(25))
@given(
    faults=st.lists(FAULTS, max_size=12),
    frames=st.lists(st.sampled_from(Priority), min_size=1, max_size=24),
    devices=st.integers(1, 2),
    max_frames=st.integers(1, 5),
    restarts=st.integers(0, 12),
    cancel=st.booleans(),
)
def test_every_frame_has_one_fate_whatever_devices_do(
    faults: list[str], frames: list[Priority], devices: int, max_frames: int, restarts: int, cancel: bool
) -> None:
    script, end = iter(faults), threading.Event()

    def before(images: Sequence[RawImage]) -> bool | None:
        match next(script, ""):
            case "memory":
                raise OutOfDeviceMemory("tiny:0", len(images), images[0].width * images[0].height)
            case "lost":
                raise DeviceLost("gone")
            case "poison":
                raise ValueError("unforeseen")
            case "slow":
                time.sleep(0.01)
            case "stuck":
                end.wait(60)
            case "not numbers":
                return False
        return None

    async def serve() -> House:
        house = House(
            *[lambda: PlainEngine(before)] * devices,
            max_frames=max_frames,
            stuck_after_s=0.1 if "stuck" in faults else 60.0,
            restarts=RestartLimit(restarts, 600.0, 0.001),
        )
        async with house.running() as running:
            for sequence, priority in enumerate(frames):
                if running.done():  # every device is given up: a node refuses what comes now
                    break
                house.submit(make_job(sequence, edge=f"e{sequence % 3}", priority=priority))
                if sequence % 4 == 3:
                    await asyncio.sleep(0.002)
            if not cancel:
                await house.until(lambda: running.done() or len(house.fates) == len(house.jobs))
            end.set()
        return house  # which has checked the account of fates and credits

    house = asyncio.run(serve())
    assert house.fates.keys() == house.jobs.keys()
    if set(faults) <= {"", "not numbers", "slow"} and not cancel:
        assert len(house.results) == len(frames)
    assert all(result.image is not None for result in house.results.values() if result.outcome is Outcome.ENHANCED)
