"""The worker between a real scheduler and a device that misbehaves."""

import asyncio
import dataclasses
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
    """Settle jobs that were submitted together; each exactly once, each credit returned."""
    results: dict[int, Result] = {}
    done, credits = asyncio.Event(), []

    def settle(settled: Job, result: Result) -> None:
        assert result.id.sequence not in results, "settled twice"
        results[result.id.sequence] = result
        if len(results) == len(jobs):
            done.set()

    scheduler: Scheduler[Job] = Scheduler(10**9, max_frames, 10**9)
    worker = Worker(engine, scheduler, ThreadPoolExecutor(2), settle)
    for each in jobs:
        each.release = lambda sequence=each.frame.id.sequence: credits.append(sequence)
        scheduler.submit(ticket(each, 48, 32, expires_ns))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    worker.close()
    assert sorted(set(credits)) == sorted(each.frame.id.sequence for each in jobs)
    return results


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

    def __init__(self, sound: Engine, error: Exception | None) -> None:
        self.device, self.model = sound.device, sound.model
        self._error = error

    def enhance(self, images) -> list[Enhanced]:
        if self._error is not None:
            raise self._error
        return [Enhanced(np.zeros((32, 48, 3), np.uint8), 0.0, 0.0, finite=False) for _ in images]


@pytest.mark.parametrize("error", [DeviceError("no memory for 2 frames"), ValueError("unforeseen")])
async def test_a_device_that_fails_settles_its_frames_and_goes_on(engine: Engine, error: Exception) -> None:
    results = await work(Sick(engine, error), job(0), job(1), job(2), max_frames=2)
    assert {result.outcome for result in results.values()} == {Outcome.FAILED}
    assert all(str(error) in result.reason for result in results.values())


async def test_an_output_that_is_not_a_number_is_never_shown(engine: Engine) -> None:
    [result] = (await work(Sick(engine, None), job(0))).values()
    assert result.outcome is Outcome.FAILED and result.image is None and "not numbers" in result.reason
