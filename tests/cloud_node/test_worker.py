"""The worker between a real scheduler and a device that misbehaves."""

import asyncio
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cloud_node.engine import Engine, Enhanced
from cloud_node.jobs import Encoding, Job
from cloud_node.scheduler import Scheduler
from cloud_node.worker import Worker, ticket
from common import packing
from common.errors import DeviceError
from common.frame import Frame, FrameId, Outcome, Result
from common.packing import ImageFormat
from common.pixels import RawImage
from common.telemetry import Timeline


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(torch.device("cpu"), "fast")


def job(sequence: int = 0, payload: bytes | None = None) -> Job:
    rgb = np.random.default_rng(sequence).integers(0, 20, (32, 48, 3), dtype=np.uint8)
    packed = packing.pack(RawImage.from_rgb(rgb))
    if payload is not None:
        packed = dataclasses.replace(packed, payload=payload)
    frame = Frame(FrameId("e", "s", sequence), packed, 1)
    return Job(frame, Encoding(ImageFormat.LOSSLESS), Timeline({}))


async def work(engine: Engine, *jobs: Job, expires_ns: int = 0, max_frames: int = 8) -> dict[int, Result]:
    """Settle jobs that were submitted together; each exactly once, each credit returned exactly once."""
    settled: list[Result] = []
    credits: list[int] = []
    scheduler: Scheduler[Job] = Scheduler(10**9, max_frames, 10**9)
    worker = Worker(engine, scheduler, ThreadPoolExecutor(2), lambda job, result: settled.append(result))
    for each in jobs:
        each.release = lambda sequence=each.frame.id.sequence: credits.append(sequence)
        scheduler.submit(ticket(each, 48, 32, expires_ns))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while len(scheduler) or worker.pending or len(settled) < len(jobs):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    worker.close()
    sequences = sorted(each.frame.id.sequence for each in jobs)
    assert sorted(credits) == sequences
    assert sorted(result.id.sequence for result in settled) == sequences
    return {result.id.sequence: result for result in settled}


async def test_a_batch_is_enhanced_and_its_stages_are_timed(engine: Engine) -> None:
    results = await work(engine, job(0), job(1), job(2))
    assert {result.outcome for result in results.values()} == {Outcome.ENHANCED}
    assert {result.batch_size for result in results.values()} == {3}
    first = results[0]
    assert first.image is not None and packing.decode(first.image).shape == (32, 48, 3)
    assert set(first.stages_ns) == {"scheduler", "engine", "engine/enhance"}
    assert first.stages_ns["engine"] >= first.stages_ns["engine/enhance"] > 0


async def test_a_broken_payload_fails_alone(engine: Engine) -> None:
    whole = job(1).frame.image.payload
    broken = whole[: len(whole) // 2]
    results = await work(engine, job(0), job(1, broken), job(2))
    assert [results[n].outcome for n in range(3)] == [Outcome.ENHANCED, Outcome.FAILED, Outcome.ENHANCED]
    assert "payload" in results[1].reason and results[1].image is None


async def test_expired_frames_never_reach_the_device(engine: Engine) -> None:
    results = await work(engine, job(0), expires_ns=1)
    assert results[0].outcome is Outcome.EXPIRED and "deadline" in results[0].reason


class Sick(Engine):
    """A device that fails or gives nonsense."""

    def __init__(self, sound: Engine, error: Exception | None, finite: bool = False) -> None:
        self.device, self.model = sound.device, sound.model
        self._error, self._finite = error, finite

    def enhance(self, images) -> list[Enhanced]:
        if self._error is not None:
            raise self._error
        return [Enhanced(np.zeros((32, 48, 3), np.uint8), 0.0, 0.0, finite=self._finite) for _ in images]


@pytest.mark.parametrize("error", [DeviceError("no memory for 2 frames"), ValueError("unforeseen")])
async def test_a_device_that_fails_settles_its_frames_and_goes_on(engine: Engine, error: Exception) -> None:
    results = await work(Sick(engine, error), job(0), job(1), job(2), max_frames=2)
    assert {result.outcome for result in results.values()} == {Outcome.FAILED}
    assert all(str(error) in result.reason for result in results.values())


async def test_an_output_that_is_not_a_number_is_never_shown(engine: Engine) -> None:
    [result] = (await work(Sick(engine, None), job(0))).values()
    assert result.outcome is Outcome.FAILED and result.image is None and "not numbers" in result.reason


async def test_a_job_that_nobody_waits_for_is_not_enhanced(engine: Engine) -> None:
    left = job(0)
    left.reply = asyncio.get_running_loop().create_future()
    left.reply.cancel()
    results = await work_until_empty(engine, left, job(1))
    assert set(results) == {1}


async def work_until_empty(engine: Engine, *jobs: Job) -> dict[int, Result]:
    settled: dict[int, Result] = {}
    scheduler: Scheduler[Job] = Scheduler(10**9, 8, 10**9)

    def settle(each: Job, result: Result) -> None:
        settled[result.id.sequence] = result

    worker = Worker(engine, scheduler, ThreadPoolExecutor(2), settle)
    for each in jobs:
        scheduler.submit(ticket(each, 48, 32, 0))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while len(scheduler) or worker.pending or not settled:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    worker.close()
    return settled


async def test_a_node_that_cannot_hand_results_on_comes_down(engine: Engine) -> None:
    def settle(each: Job, result: Result) -> None:
        raise OSError("no way to hand it on")

    scheduler: Scheduler[Job] = Scheduler(10**9, 8, 10**9)
    worker = Worker(engine, scheduler, ThreadPoolExecutor(2), settle)
    scheduler.submit(ticket(job(0), 48, 32, 0))
    with pytest.raises(OSError, match="no way"):
        async with asyncio.timeout(60):
            await worker.run()
    worker.close()


async def test_the_device_waits_for_the_encoders(engine: Engine) -> None:
    """Enhanced frames are large: only a few may wait to be encoded."""
    blocked, most = threading.Event(), 0
    encoders = ThreadPoolExecutor(1)
    encoders.submit(blocked.wait)
    settled: list[int] = []
    scheduler: Scheduler[Job] = Scheduler(10**9, 1, 10**9)
    worker = Worker(Sick(engine, None, finite=True), scheduler, encoders, lambda each, result: settled.append(1))
    for sequence in range(20):
        scheduler.submit(ticket(job(sequence), 48, 32, 0))
    running = asyncio.create_task(worker.run())
    for _ in range(50):
        await asyncio.sleep(0.01)
        most = max(most, worker.pending)
    assert len(scheduler) >= 20 - most and most <= 6
    blocked.set()
    async with asyncio.timeout(60):
        while len(settled) < 20:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    worker.close()
