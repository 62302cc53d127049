"""Processes of devices that are killed, some by the frames they get: nothing is lost, and nothing comes twice."""

import asyncio
import fcntl
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from deadly_child import HANGS, KILLS_ENCODER, KILLS_UNPACKER, SLOW
from devices import House, make_job, started

from cloud_node import device_memory, device_process
from cloud_node.batches import Done
from cloud_node.device_memory import LEAST, Stretch
from cloud_node.device_process import ProcessDevice
from cloud_node.device_wire import INLINE, LENGTH, EngineSpec, Inbox, Tidy
from cloud_node.jobs import Encoding, Job
from cloud_node.mover import AT_ONCE
from cloud_node.outputs import Away
from cloud_node.restarts import RestartLimit
from common import packing, usage
from common.errors import DeviceLost
from common.frame import Frame, FrameId, Outcome
from common.packing import ImageFormat
from common.pixels import RawImage
from common.telemetry import Timeline

ALONE = EngineSpec("cpu", {"none": None}, threads=1)
HELPED = EngineSpec("cpu", {"none": None}, threads=1, helpers=2)
LARGE = 1_000, 700  # noise of this size is 2 MB


class Deadly(ProcessDevice):
    child = "deadly_child"


def large(sequence: int) -> Job:
    """A frame of noise whose result is larger than the socket's buffers."""
    noise = np.random.default_rng(sequence).integers(0, 256, (LARGE[1], LARGE[0], 3), np.uint8)
    frame = Frame(FrameId("e", "s", sequence), packing.pack(RawImage.from_rgb(noise)), 1)
    return Job(frame, Encoding(ImageFormat.LOSSLESS), Timeline({}))


def house_of(
    kind: type[ProcessDevice], spec: EngineSpec, devices: list[ProcessDevice], frames: int = 8, **options: object
) -> House:
    def make() -> ProcessDevice:
        devices.append(kind(spec, "cpu"))
        return devices[-1]

    return House(devices=[make], max_frames=frames, restarts=RestartLimit(3, 600.0, 0.01), **options)


async def send_until_settled(house: House, *makes: Callable[[], Job]) -> None:
    """As an edge does: what comes back is sent again."""
    left = list(makes)
    while left:
        await house.until(lambda: house.supervisor.healthy)
        for job in [make() for make in left]:
            sequence = job.frame.id.sequence
            house.fates.pop(sequence, None)  # that it came back
            house.credits.discard(sequence)
            house.submit(job)
        await house.settled()
        left = [make for make in left if make().frame.id.sequence not in house.results]


@pytest.mark.parametrize(
    ("spec", "grey"),
    [(ALONE, KILLS_ENCODER), (HELPED, KILLS_UNPACKER)],
    ids=["encoded by the device's thread", "unpacked by a helper"],
)
async def test_a_frame_that_kills_the_process_fails_and_costs_no_other_frame_anything(
    spec: EngineSpec, grey: int
) -> None:
    devices: list[ProcessDevice] = []
    house = house_of(Deadly, spec, devices)
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        await send_until_settled(house, *(partial(make_job, n) for n in (1, 2, grey, 3, 4)))
        assert len(devices) == 3 or not house.supervisor.healthy, "lost once among others, and once alone"
        await house.until(lambda: house.supervisor.healthy)
        insists = partial(make_job, 99, edge="other", payload=make_job(grey).frame.image.payload)
        await send_until_settled(house, insists, partial(make_job, 5))
        assert len(devices) == 3
    assert [house.results[n].outcome for n in (1, 2, 3, 4, 5)] == [Outcome.ENHANCED] * 5
    assert [house.results[n].outcome for n in (grey, 99)] == [Outcome.FAILED] * 2
    assert "lost twice" in house.results[grey].reason and "lost twice" in house.results[99].reason


async def test_images_that_were_finished_outlive_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are done, large and not read yet; the third is being encoded, and comes back to be done again."""
    monkeypatch.setenv("DEADLY_GO", str(tmp_path / "go"))
    devices: list[ProcessDevice] = []
    house = house_of(Deadly, HELPED, devices)
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        mute = Muted(devices[0])
        house.submit(large(1), large(2), make_job(SLOW, size=LARGE))
        await house.until(lambda: mute.images == 2)
        os.kill(devices[0].pid, signal.SIGKILL)
        mute.speak()
        await house.settled()
        assert set(house.results) == {1, 2} and set(house.returned) == {SLOW}
        (tmp_path / "go").touch()
        await house.until(lambda: house.supervisor.healthy)
        await send_until_settled(house, partial(make_job, SLOW, size=LARGE), partial(large, 3))
    for sequence in (1, 2, 3):
        image = house.results[sequence].image
        assert image is not None
        assert np.array_equal(packing.decode(image), packing.decode(large(sequence).frame.image))
    assert house.results[SLOW].outcome is Outcome.ENHANCED, "it was a suspect, and is cleared"
    assert not house.suspects._guilty


async def test_what_was_said_counts_where_a_write_tells_of_the_end() -> None:
    """Such a write ends the connection at once, with a batch and its images still to be read."""
    async with started(ProcessDevice(HELPED, "cpu")) as device:
        assert device._transport is not None
        flight = device.send([large(1), large(2)], 0)
        device._transport.pause_reading()
        await asyncio.to_thread(said, device, 2)
        os.kill(device.pid, signal.SIGKILL)
        assert device._process is not None
        await asyncio.to_thread(os.waitid, os.P_PID, device.pid, os.WEXITED | os.WNOWAIT)
        device._write(Tidy())
        await shown(await flight, large(1), large(2))
        with pytest.raises(DeviceLost, match="the process of cpu"):
            await device.send([large(3)], 0)


async def test_last_words_that_make_no_sense_hold_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with started(ProcessDevice(ALONE, "cpu")) as device:
        os.kill(device.pid, signal.SIGSTOP)
        flight = device.send([make_job(1)], 0)
        device.data_received(LENGTH.pack(100))
        with pytest.raises(pickle.UnpicklingError):  # which the event loop would log, and end the connection
            device.data_received(b"x" * 100)
        left, right = socket.socketpair()
        with left, right:
            right.sendall(b"more")
            right.shutdown(socket.SHUT_WR)
            os.dup2(left.fileno(), device._transport.get_extra_info("socket").fileno())  # type: ignore[union-attr]
            device._transport.abort()  # type: ignore[union-attr]
            os.kill(device.pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                with pytest.raises(DeviceLost, match="signal 9"):
                    await flight
    assert "make no sense" in caplog.text


async def test_a_process_whose_end_is_not_heard_is_waited_for_no_longer_than_asked() -> None:
    async with started(ProcessDevice(ALONE, "cpu")) as device:
        assert device._transport is not None
        device._transport.pause_reading()
        os.kill(device.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            assert not await device.ended(2.0)
        device._transport.resume_reading()


async def test_a_frame_is_not_to_blame_for_a_process_that_the_node_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is being encoded while the process is given up for another reason."""
    monkeypatch.setenv("DEADLY_GO", str(tmp_path / "go"))
    devices: list[ProcessDevice] = []
    house = house_of(Deadly, HELPED, devices)
    [worker] = house.workers
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        house.submit(make_job(SLOW))
        await house.until(lambda: worker.handover.encoding and devices[0].held())
        worker.dispatch.hung = devices[0]
        worker.wake()
        await house.settled()
        assert set(house.returned) == {SLOW} and not house.suspects._guilty
        (tmp_path / "go").touch()
        await house.until(lambda: house.supervisor.healthy)


async def test_processor_time_counts_on_over_the_death_of_a_process() -> None:
    devices: list[ProcessDevice] = []
    house = house_of(ProcessDevice, ALONE, devices)
    [worker] = house.workers
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        before = worker.cpu_s
        os.kill(devices[0].pid, signal.SIGKILL)
        await house.until(lambda: worker.counts["lost"])
        ended = worker.cpu_s
        await house.until(lambda: house.supervisor.healthy)
        told = usage.of_process(worker.pid)
        assert told is not None and 0 < before <= ended < ended + told[0] <= worker.cpu_s


class Muted:
    """The node hears of a batch, and of its images only after `speak`."""

    def __init__(self, device: ProcessDevice) -> None:
        self.images, self._kept = 0, list[object]()
        self._device, self._received = device, device._received
        device._received = self._hear  # type: ignore[method-assign]

    def _hear(self, message: object) -> None:
        if isinstance(message, device_process.Image):
            self.images += 1
            self._kept.append(message)
        else:
            self._received(message)

    def speak(self) -> None:
        self._device._received = self._received  # type: ignore[method-assign]
        for message in self._kept:
            self._received(message)


async def test_large_frames_hold_up_nothing_and_outlive_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are copied beside the event loop, go over no socket, and their memory goes when they are over."""
    copied_by, received = list[str](), list[int]()
    write_all = device_process.write_all

    def noted(stretch: Stretch, contents: list[bytes]) -> None:
        copied_by.append(threading.current_thread().name)
        write_all(stretch, contents)

    monkeypatch.setattr(device_process, "write_all", noted)
    monkeypatch.setattr(device_process, "TIDY_EVERY_S", 0.05)
    device = ProcessDevice(HELPED, "cpu")
    hear = device.data_received
    device.data_received = lambda data: (received.append(len(data)), hear(data))[1]  # type: ignore[func-returns-value,method-assign]
    async with started(device):
        await shown(await device.send([small := make_job(1)], 0), small)

        received.clear()
        assert len(large(2).frame.image.payload) > max(AT_ONCE, 10 * INLINE)
        first, back = device.send([large(2), large(3)], 0), device.send([large(4)], 0)
        assert back.revoke(), "while it is copied, or waits for that"
        again = device.send([large(5)], 0)
        done = await first
        assert device.memory > 3 * LEAST
        await shown(done, large(2), large(3))
        await shown(await again, large(5))
        assert copied_by[0] == "MainThread" and all(name.startswith("cpu copies") for name in copied_by[1:])
        assert sum(received) < 8_192, "an urgent answer waits behind no image"

        async with asyncio.timeout(60):
            while device.memory > 3 * LEAST:
                await asyncio.sleep(0.02)
        done = await device.send([large(6), large(7)], 0)  # and grows again
        assert done is not None and device._transport is not None
        device._transport.pause_reading()
        await asyncio.to_thread(said, device, 2)
        device.leave()  # because of a batch behind it that hangs, say
        device._transport.resume_reading()
        await shown(done, large(6), large(7))


async def shown(done: Done | None, *jobs: Job) -> None:
    """Each result is the frame that was sent."""
    assert done is not None
    for (_, output), job in zip(done.enhanced, jobs, strict=True):
        assert isinstance(output, Away)
        assert np.array_equal(packing.decode(await output.image), packing.decode(job.frame.image))


def said(device: ProcessDevice, images: int) -> None:
    """Until the node could read the ends of so many images that wait in its paused socket."""
    assert device._transport is not None
    ours = device._transport.get_extra_info("socket").fileno()
    end = time.monotonic() + 60
    with socket.socket(fileno=os.dup(ours)) as peeked:
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                heard = Inbox().add(peeked.recv(1 << 20, socket.MSG_PEEK))
                if sum(isinstance(message, device_process.Image) for message in heard) == images:
                    return
            time.sleep(0.002)
    raise TimeoutError(f"{images} images were not told")


async def test_a_frame_that_hangs_the_device_is_blamed_and_fails_alone() -> None:
    devices: list[ProcessDevice] = []
    house = house_of(Deadly, ALONE, devices, stuck_after_s=10.0)
    async with house.running(), asyncio.timeout(180):
        await send_until_settled(house, *(partial(make_job, n) for n in (1, HANGS, 3)))
        assert len(devices) <= 3, "it took two with it"
    assert house.outcomes() == {1: Outcome.ENHANCED, 3: Outcome.ENHANCED, HANGS: Outcome.FAILED}


@pytest.mark.skipif(not hasattr(fcntl, "F_ADD_SEALS"), reason="this platform's shared memory cannot be bounded")
async def test_a_result_that_there_is_no_memory_for_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "_nameless_file", lambda: os.memfd_create("bounded", os.MFD_ALLOW_SEALING))
    device = ProcessDevice(HELPED, "cpu")
    fcntl.fcntl(device._results.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    async with started(device):
        done = await device.send([large(1)], 0)
        assert done is not None
        [(_, output)] = done.enhanced
        assert isinstance(output, Away)
        with pytest.raises(RuntimeError, match="not permitted"):
            await output.image
        await shown(await device.send([small := make_job(2)], 0), small)
