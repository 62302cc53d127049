"""The worker between a real scheduler and a device, also one that misbehaves."""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from devices import HEIGHT, WIDTH, House, PlainEngine, make_job
from local_device import LocalDevice

from cloud_node.engine import Engine
from cloud_node.jobs import Job, ticket
from cloud_node.restarts import RestartLimit
from cloud_node.scheduler import Scheduler
from cloud_node.supervisor import Supervisor
from cloud_node.worker import Worker
from common import packing
from common.errors import DeviceError, DeviceLost, OutOfDeviceMemory
from common.frame import Outcome, Priority
from common.pixels import RawImage

PIXELS = WIDTH * HEIGHT
SOON = {"restarts": RestartLimit(3, 600.0, 0.01)}


@pytest.fixture(scope="module")
def network() -> Engine:
    return Engine(torch.device("cpu"), "fast")


class Gate:
    """Holds a device up in the middle of its first batch."""

    def __init__(self, then: Exception | None = None) -> None:
        self.reached, self.open, self._then = threading.Event(), threading.Event(), then

    def __call__(self, images: Sequence[RawImage]) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self.open.wait(60)
            if self._then is not None:
                raise self._then


# --- sound devices ---


async def test_a_batch_is_enhanced_and_its_stages_are_timed(network: Engine) -> None:
    house = House(lambda: network)
    house.submit(make_job(0), make_job(1), make_job(2))
    async with house.running():
        await house.settled()
    assert set(house.outcomes().values()) == {Outcome.ENHANCED}
    assert {result.batch_size for result in house.results.values()} == {3}
    first = house.results[0]
    assert first.model == network.model and first.image is not None
    assert packing.decode(first.image).shape == (HEIGHT, WIDTH, 3)
    assert set(first.stages_ns) == {"scheduler", "engine", "engine/enhance"}
    assert first.stages_ns["engine"] >= first.stages_ns["engine/enhance"] > 0


async def test_each_frame_gets_its_own_pixels() -> None:
    house = House(PlainEngine, max_frames=3)
    house.submit(*map(make_job, range(10)))
    async with house.running():
        await house.settled()
    for sequence, result in house.results.items():
        assert result.image is not None and set(packing.decode(result.image).flat) == {sequence}


async def test_a_broken_payload_fails_alone() -> None:
    house = House(PlainEngine)
    whole = make_job(1).frame.image.payload
    house.submit(make_job(0), make_job(1, payload=whole[: len(whole) // 2]), make_job(2))
    async with house.running():
        await house.settled()
    assert list(house.outcomes().values()) == [Outcome.ENHANCED, Outcome.FAILED, Outcome.ENHANCED]
    assert "payload" in house.results[1].reason and house.results[1].image is None
    assert house.jobs[1].image_broken


async def test_expired_frames_never_reach_the_device() -> None:
    engine = PlainEngine()
    house = House(lambda: engine)
    house.submit(make_job(0), expires_ns=1)
    async with house.running():
        await house.settled()
    assert house.results[0].outcome is Outcome.EXPIRED and "deadline" in house.results[0].reason
    assert not engine.batches


async def test_a_job_that_nobody_waits_for_is_not_enhanced() -> None:
    engine = PlainEngine()
    house = House(lambda: engine, max_frames=1)
    left = make_job(0)
    left.reply = asyncio.get_running_loop().create_future()
    left.reply.cancel()
    house.submit(left, make_job(1))
    async with house.running():
        await house.until(lambda: 1 in house.results)
    assert engine.batches == [[1]]


async def test_presets_do_not_share_a_batch() -> None:
    engine = PlainEngine()
    house = House(lambda: engine)
    for sequence, (edge, preset) in enumerate([("a", "fast"), ("b", "reference"), ("c", "fast")]):
        house.submit(make_job(sequence, edge=edge, preset=preset))
    async with house.running():
        await house.settled()
    assert (engine.batches, engine.presets) == ([[0, 2], [1]], ["fast", "reference"])


async def test_a_batch_that_forms_is_waited_for_until_it_is_full() -> None:
    engine = PlainEngine()
    house = House(lambda: engine, max_frames=2)
    house.scheduler.window_ns = 10**12
    async with house.running():
        house.submit(make_job(0))
        await asyncio.sleep(0.05)
        assert not engine.batches
        house.submit(make_job(1))
        await house.settled()
    assert engine.batches == [[0, 1]]


async def test_a_batch_that_stays_small_goes_when_its_window_closes() -> None:
    house = House(PlainEngine)
    house.scheduler.window_ns = 20_000_000
    async with house.running():
        house.submit(make_job(0))
        await house.settled()
    assert house.outcomes() == {0: Outcome.ENHANCED}


async def test_what_a_batch_took_is_told() -> None:
    told: list[tuple[int, int, int]] = []
    house = House(PlainEngine, max_frames=2, on_batch=lambda *batch: told.append(batch))
    house.submit(*map(make_job, range(4)))
    async with house.running():
        await house.settled()
    assert [(pixels, frames) for pixels, _, frames in told] == [(2 * PIXELS, 2)] * 2
    assert all(device_ns > 0 for _, device_ns, _ in told)


async def test_a_node_that_cannot_hand_results_on_comes_down() -> None:
    def settle(job: object, result: object) -> None:
        raise OSError("no way to hand it on")

    scheduler: Scheduler[Job] = Scheduler(10**9, 8, 10**9)
    device = partial(LocalDevice, PlainEngine, ThreadPoolExecutor(2))
    worker = Worker(device, scheduler, settle)
    scheduler.submit(ticket(make_job(0), WIDTH, HEIGHT, 0))
    supervisor = Supervisor([worker], scheduler, settle)
    with pytest.raises(OSError, match="no way"):
        async with asyncio.timeout(60):
            await supervisor.run()
    await supervisor.close()


async def test_the_device_waits_for_the_encoders() -> None:
    """Enhanced frames are large: only a few may wait to be encoded."""
    blocked, most = threading.Event(), 0
    encoders = ThreadPoolExecutor(1)
    encoders.submit(blocked.wait)
    house = House(PlainEngine, max_frames=1, encoders=encoders)
    house.submit(*map(make_job, range(20)))
    async with house.running():
        for _ in range(50):
            await asyncio.sleep(0.01)
            most = max(most, house.supervisor.pending)
        assert len(house.scheduler) >= 20 - most and most <= 6
        blocked.set()
        await house.settled()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform pins no threads")
async def test_the_thread_of_a_device_keeps_to_its_processors() -> None:
    cpu, seen = max(os.sched_getaffinity(0)), []
    before = os.sched_getaffinity(0)
    house = House(lambda: PlainEngine(lambda images: seen.append(os.sched_getaffinity(0))), cpus=frozenset([cpu]))
    house.submit(make_job(0))
    async with house.running():
        await house.settled()
    assert seen == [{cpu}] and os.sched_getaffinity(0) == before


# --- what goes next ---


async def test_a_full_batch_lines_up_and_the_one_after_it_stays_in_the_queue() -> None:
    gate = Gate()
    house = House(lambda: PlainEngine(gate), max_frames=2)
    first, second, third, fourth = ([make_job(2 * n), make_job(2 * n + 1)] for n in range(4))
    house.submit(*first)
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(*second, *third, *fourth)
        await house.until(lambda: house.supervisor.pending == 4)
        await asyncio.sleep(0.02)
        assert house.supervisor.pending == 4 and len(house.scheduler) == 4
        gate.open.set()
        await house.settled()


async def test_a_batch_with_room_left_is_chosen_when_the_device_is_free() -> None:
    gate = Gate()
    engine = PlainEngine(gate)
    house = House(lambda: engine, max_frames=2)
    house.submit(make_job(0))
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(make_job(1))
        await asyncio.sleep(0.02)
        assert house.supervisor.pending == 1 and len(house.scheduler) == 1
        gate.open.set()
        await house.settled()
    assert engine.batches == [[0], [1]]


async def test_an_essential_frame_passes_what_lined_up() -> None:
    gate = Gate()
    engine = PlainEngine(gate)
    house = House(lambda: engine, max_frames=1)
    house.submit(make_job(0))
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(make_job(1), make_job(2))
        await house.until(lambda: house.supervisor.pending == 2)
        house.submit(make_job(3, edge="other", priority=Priority.ESSENTIAL))
        gate.open.set()
        await house.settled()
    assert engine.batches == [[0], [3], [1], [2]]


async def test_an_essential_frame_takes_the_place_of_a_less_urgent_one_that_lined_up() -> None:
    gate = Gate()
    engine = PlainEngine(gate)
    house = House(lambda: engine, max_frames=2)
    house.submit(make_job(0))
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(make_job(1, edge="a", priority=Priority.ESSENTIAL), make_job(2, edge="b"))
        await house.until(lambda: house.supervisor.pending == 3)
        house.submit(make_job(3, edge="c", priority=Priority.ESSENTIAL))
        gate.open.set()
        await house.settled()
    assert engine.batches == [[0], [1, 3], [2]]


async def test_an_essential_frame_passes_a_suspect_that_waits_to_be_alone() -> None:
    blocked = threading.Event()
    encoders = ThreadPoolExecutor(1)
    encoders.submit(blocked.wait)
    engine = PlainEngine()
    house = House(lambda: engine, encoders=encoders)
    suspect = make_job(1)
    house.suspects.blame(suspect)
    async with house.running():
        house.submit(make_job(0))
        await house.until(lambda: engine.batches)
        house.submit(suspect)
        await house.until(lambda: not len(house.scheduler))
        house.submit(make_job(2, edge="other", priority=Priority.ESSENTIAL))
        await house.until(lambda: len(engine.batches) > 1)
        blocked.set()
        await house.settled()
    assert engine.batches == [[0], [2], [1]]


async def test_whichever_device_is_free_first_takes_the_essential_frame() -> None:
    gates = [Gate(), Gate()]
    engines = [PlainEngine(gate) for gate in gates]
    house = House(lambda: engines[0], lambda: engines[1], max_frames=1)
    house.submit(make_job(0), make_job(1))
    async with house.running():
        await house.until(lambda: all(gate.reached.is_set() for gate in gates))
        house.submit(make_job(2), make_job(3, edge="other", priority=Priority.ESSENTIAL))
        await house.until(lambda: house.supervisor.pending == 3)
        [busy] = (
            index for index, worker in enumerate(house.workers) if worker.dispatch.ahead_priority == Priority.ESSENTIAL
        )
        gates[1 - busy].open.set()
        await house.until(lambda: 2 in house.results)
        assert not engines[busy].batches and engines[1 - busy].batches[1:] == [[3], [2]]
        gates[busy].open.set()
        await house.settled()


async def test_an_overdue_frame_that_lined_up_keeps_its_turn() -> None:
    gate = Gate()
    engine = PlainEngine(gate)
    house = House(lambda: engine, max_frames=1)
    house.scheduler.max_wait_ns = 0
    essential = [make_job(n, edge="other", priority=Priority.ESSENTIAL) for n in (0, 2, 3)]
    house.submit(essential[0])
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(make_job(1, priority=Priority.SECONDARY), essential[1])
        await house.until(lambda: house.supervisor.pending == 2)
        house.submit(essential[2])
        gate.open.set()
        await house.settled()
    assert engine.batches == [[0], [1], [2], [3]]


async def test_what_lined_up_behind_one_device_goes_to_another_that_is_idle() -> None:
    gates = [Gate(), Gate()]
    engines = [PlainEngine(gate) for gate in gates]
    house = House(lambda: engines[0], lambda: engines[1], max_frames=1)
    house.submit(make_job(0), make_job(1))
    async with house.running():
        await house.until(lambda: all(gate.reached.is_set() for gate in gates))
        house.submit(make_job(2))
        await house.until(lambda: house.supervisor.pending == 3)
        [busy] = (index for index, worker in enumerate(house.workers) if worker.dispatch._ahead)
        gates[1 - busy].open.set()
        await house.until(lambda: 2 in house.results)
        assert not engines[busy].batches
        gates[busy].open.set()
        await house.settled()


async def test_a_frame_that_expires_in_line_never_reaches_the_device() -> None:
    gate = Gate()
    engine = PlainEngine(gate)
    house = House(lambda: engine, max_frames=1)
    house.submit(make_job(0))
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(make_job(1), expires_ns=time.monotonic_ns() + 100_000_000)
        await house.until(lambda: house.supervisor.pending == 2 or 1 in house.results)
        await asyncio.sleep(0.12)
        gate.open.set()
        await house.settled()
    assert engine.batches == [[0]] and house.results[1].outcome is Outcome.EXPIRED


async def test_what_lined_up_behind_a_lost_device_waits_for_the_next() -> None:
    gate = Gate(DeviceLost("gone"))
    lost, sound = PlainEngine(gate), PlainEngine()
    engines = iter([lost, sound])
    house = House(lambda: next(engines), max_frames=1, **SOON)
    house.submit(make_job(0))
    async with house.running():
        await house.until(gate.reached.is_set)
        house.submit(make_job(1))
        await house.until(lambda: house.supervisor.pending == 2)
        gate.open.set()
        await house.settled()
    assert not lost.batches and set(house.returned) == {0, 1} and not house.results


# --- faults ---


def refuses(sequences: Sequence[int], error: Exception) -> PlainEngine:
    def before(images: Sequence[RawImage]) -> None:
        if any(image.data[0] in sequences for image in images):
            raise error

    return PlainEngine(before)


async def test_a_frame_that_the_engine_cannot_take_fails_alone() -> None:
    engine = refuses([5], ValueError("unforeseen"))
    house = House(lambda: engine)
    house.submit(*map(make_job, range(8)))
    async with house.running():
        await house.settled()
        assert house.supervisor.healthy
    assert [n for n, outcome in house.outcomes().items() if outcome is not Outcome.ENHANCED] == [5]
    assert "unforeseen" in house.results[5].reason and not house.returned


async def test_an_output_that_is_not_a_number_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    house = House(lambda: PlainEngine(lambda images: False))
    house.submit(make_job(7))
    with caplog.at_level(logging.ERROR):
        async with house.running():
            await house.settled()
    assert house.results[7].outcome is Outcome.FAILED and house.results[7].image is None
    assert "not numbers" in house.results[7].reason
    assert house.workers[0].counts["not numbers"] == 1
    assert "e/s/7" in caplog.text and "plain@1" in caplog.text


class SmallEngine(PlainEngine):
    """Has memory for a few frames."""

    def __init__(self, frames: int) -> None:
        super().__init__(self._fit)
        self.most_pixels = frames * PIXELS

    def _fit(self, images: Sequence[RawImage]) -> None:
        pixels = images[0].width * images[0].height
        if len(images) * pixels > self.most_pixels:
            raise OutOfDeviceMemory("tiny:0", len(images), pixels)


async def test_out_of_memory_halves_the_batch_in_order_and_lowers_the_bound() -> None:
    engine = SmallEngine(3)
    house = House(lambda: engine, max_pixels=8 * PIXELS)
    house.submit(*map(make_job, range(16)))
    async with house.running():
        await house.settled()
    assert set(house.outcomes().values()) == {Outcome.ENHANCED}
    assert engine.batches == [[n, n + 1] for n in range(0, 16, 2)]
    assert house.scheduler.max_pixels == 2 * PIXELS
    assert house.workers[0].counts["out of memory"] in (1, 2)  # the second batch had lined up already


async def test_a_frame_that_no_memory_suffices_for_fails_with_the_reason() -> None:
    house = House(lambda: SmallEngine(4))
    house.submit(make_job(0), make_job(1, size=(10 * WIDTH, HEIGHT)), make_job(2))
    async with house.running():
        await house.settled()
        assert house.supervisor.healthy
    assert list(house.outcomes().values()) == [Outcome.ENHANCED, Outcome.FAILED, Outcome.ENHANCED]
    assert "no memory for a frame of 480x32" in house.results[1].reason


async def test_frames_on_a_lost_device_are_given_back_and_the_next_engine_goes_on() -> None:
    engines = iter([refuses([1], DeviceLost("it fell off the bus")), PlainEngine()])
    house = House(lambda: next(engines), max_frames=2, **SOON)
    async with house.running():
        house.submit(make_job(0), make_job(1))
        await house.settled()
        await house.until(lambda: house.supervisor.healthy)
        house.submit(make_job(2))
        await house.settled()
    assert house.returned == dict.fromkeys((0, 1), "it fell off the bus")
    assert house.outcomes() == {2: Outcome.ENHANCED}
    assert house.health == [True, False, True]


async def test_a_lost_engine_is_let_go_before_the_next_is_built() -> None:
    engines: list[weakref.ref[Engine]] = []
    alive: list[bool] = []

    def build() -> Engine:
        alive.extend(engine() is not None for engine in engines)
        engine = PlainEngine() if engines else refuses([0], DeviceLost("gone"))
        engines.append(weakref.ref(engine))
        return engine

    house = House(build, restarts=RestartLimit(3, 600.0, 0.3))  # the thread that had it must come to its end
    house.submit(make_job(0))
    async with house.running():
        await house.settled()
        await house.until(lambda: house.supervisor.healthy)
    assert alive == [False]


async def test_what_was_done_before_the_device_was_lost_is_kept() -> None:
    def before(images: Sequence[RawImage]) -> None:
        if len(images) > 2:
            raise OutOfDeviceMemory("tiny:0", len(images), PIXELS)
        if images[0].data[0] == 2:
            raise DeviceLost("gone")

    house = House(lambda: PlainEngine(before), **SOON)
    house.submit(*map(make_job, range(4)))
    async with house.running():
        await house.settled()
    assert house.outcomes() == {0: Outcome.ENHANCED, 1: Outcome.ENHANCED}
    assert house.returned == {2: "gone", 3: "gone"}


async def test_a_device_on_which_nothing_works_is_given_up_and_no_frame_is_lost() -> None:
    built = []

    def fail(images: Sequence[RawImage]) -> None:
        raise RuntimeError("unspecified launch failure")

    def build() -> Engine:
        built.append(PlainEngine(fail))
        return built[-1]

    house = House(build, restarts=RestartLimit(2, 600.0, 0.0))
    async with house.running() as running:
        for sequence in range(3):
            await house.until(lambda: house.supervisor.healthy)
            house.submit(make_job(sequence))
            await house.settled()
        with pytest.raises(DeviceLost, match=r"device 0 is given up after 2 restarts .* launch failure"):
            await running
    assert len(built) == 3 and set(house.returned) == {0, 1, 2}


async def test_an_engine_that_cannot_be_built_again_counts_as_a_restart() -> None:
    engines = iter([refuses([0], DeviceLost("gone"))])

    def build() -> Engine:
        for engine in engines:
            return engine
        raise DeviceError("no driver")

    house = House(build, **SOON)
    house.submit(make_job(0))
    async with house.running() as running:
        with pytest.raises(DeviceLost, match="3 restarts .* no driver"):
            await running


async def test_a_batch_that_never_returns_is_given_back_and_its_late_answer_is_ignored() -> None:
    gate = Gate()
    stuck, sound = PlainEngine(gate), PlainEngine()
    engines = iter([stuck, sound])
    house = House(lambda: next(engines), stuck_after_s=0.2, **SOON)
    house.submit(make_job(0))
    async with house.running():
        await house.settled()
        assert "did not finish a batch within 0.2 s" in house.returned[0]
        house.workers[0].dispatch.stuck_after_s = 60.0  # from now on a busy machine is no hung device
        await house.until(lambda: house.supervisor.healthy)
        house.submit(make_job(1))
        await house.settled()
        gate.open.set()
        await house.until(lambda: stuck.batches)
        house.submit(make_job(2))
        await house.settled()
    assert sound.batches == [[1], [2]] and set(house.results) == {1, 2}


async def test_work_that_is_cancelled_in_the_middle_is_given_back() -> None:
    gate, blocked = Gate(), threading.Event()
    encoders = ThreadPoolExecutor(1)
    encoders.submit(blocked.wait)
    house = House(
        lambda: PlainEngine(lambda images: gate(images) if images[0].data[0] == 1 else None),
        max_frames=1,
        encoders=encoders,
    )
    house.submit(*map(make_job, range(3)))
    async with house.running() as running:
        await house.until(gate.reached.is_set)
        await house.until(lambda: house.supervisor.pending == 3)  # encoded, on the device, next
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert house.returned == dict.fromkeys(range(3), "this node is stopping")
        gate.open.set()
        blocked.set()


# --- other weights ---


async def test_weights_are_reloaded_while_a_batch_is_on_the_device() -> None:
    gate = Gate(then=None)
    house = House(lambda: PlainEngine(gate), **SOON)
    house.submit(make_job(0))
    async with house.running():
        await house.until(gate.reached.is_set)
        async with asyncio.timeout(60):
            assert await house.supervisor.reload("plain", Path("new")) == "plain@new"
        assert house.workers[0].models == {"plain": "plain@new"} and not house.fates
        gate.open.set()
        await house.settled()
        house.submit(make_job(1))
        await house.settled()
    assert house.results[1].model == "plain@new"


async def test_a_frame_that_is_there_at_a_second_loss_fails() -> None:
    """It may be the cause; given back for ever it would take one node after the other down."""
    house = House(lambda: refuses([0], DeviceLost("gone")), **SOON)
    async with house.running():
        house.submit(make_job(0))
        await house.settled()
        assert house.returned == {0: "gone"}
        await house.until(lambda: house.supervisor.healthy)
        house.fates.clear()
        house.credits.clear()
        house.submit(make_job(0))  # its edge sends it again
        await house.settled()
    assert house.results[0].outcome is Outcome.FAILED and "lost twice" in house.results[0].reason


async def test_a_reload_waits_for_a_device_that_is_restarted_and_ends_when_it_is_given_up() -> None:
    house = House(lambda: refuses([0, 1], DeviceLost("gone")), restarts=RestartLimit(1, 600.0, 0.2))
    async with house.running() as running:
        house.submit(make_job(0))
        await house.settled()
        assert not house.supervisor.healthy
        async with asyncio.timeout(60):
            assert await house.supervisor.reload("plain", None) == "plain@None"
        house.submit(make_job(1))
        with pytest.raises(DeviceLost):
            await running
        with pytest.raises(DeviceLost, match="given up"):
            await house.supervisor.reload("plain", None)
