"""A device in a process of its own: what it gives, what it says, and its deaths."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from devices import HEIGHT, WIDTH, House, make_job, started

from cloud_node import worker
from cloud_node.batches import Done
from cloud_node.device_child import pin
from cloud_node.device_process import ProcessDevice
from cloud_node.device_wire import LENGTH, EngineSpec, Image, Inbox
from cloud_node.jobs import Encoding
from cloud_node.outputs import Away
from cloud_node.restarts import RestartLimit
from common import packing
from common.errors import CorruptImage, DeviceError, DeviceLost, WeightsError
from common.frame import Outcome
from common.packing import EncodedImage, ImageFormat

SPEC = EngineSpec("cpu", {"none": None}, threads=1)
HELPED = EngineSpec("cpu", {"none": None}, threads=1, helpers=2)
PARENT = """
import asyncio, time
from cloud_node.device_child import pin
from cloud_node.device_process import ProcessDevice
from cloud_node.device_wire import EngineSpec
async def main():
    device = ProcessDevice(EngineSpec("cpu", {"none": None}, threads=1))
    await device.start()
    print(device.pid, flush=True)
    time.sleep(600)
asyncio.run(main())
"""


async def sequences(done: Done | None) -> list[int]:
    """What the images show."""
    assert done is not None
    found = []
    for _, output in done.enhanced:
        assert isinstance(output, Away)
        rgb = packing.decode(await output.image)
        assert rgb.shape == (HEIGHT, WIDTH, 3)
        [grey] = set(rgb.flat)
        found.append(int(grey))
    return found


async def test_batches_reloads_and_the_end_of_a_process() -> None:
    async with started(ProcessDevice(SPEC, "cpu")) as device:
        assert device.models == {"none": "none-0"}

        broken = make_job(2, payload=b"no frame")
        done = await device.send([make_job(1), broken, make_job(3)], 0)
        assert await sequences(done) == [1, 3] and done is not None
        [(job, error)] = done.failed
        assert job is broken and isinstance(error, CorruptImage) and broken.image_broken
        assert all(time.monotonic_ns() > when > 0 for when in (done.ran.began_ns, done.ran.device_ns))

        large = make_job(4, size=(2_000, 1_000), payload=os.urandom(3_000_000))  # more than the shared memory held
        done = await device.send([large], 0)
        assert done is not None and isinstance(done.failed[0][1], CorruptImage)
        assert await device.send([make_job(5)], time.monotonic_ns()) is None, "its deadline had passed"

        os.kill(device.pid, signal.SIGSTOP)
        first, second = device.send([make_job(6)], 0), device.send([make_job(7)], 0)
        assert second.revoke() and second.revoke()
        third = device.send([make_job(8)], 0)
        os.kill(device.pid, signal.SIGCONT)
        assert await sequences(await first) == [6] and await sequences(await third) == [8]
        assert not third.revoke(), "it is over"

        with pytest.raises(WeightsError, match="preset 'deep' is not served"):
            await device.reload("deep", None)
        assert await device.reload("none", None) == "none-0"

        os.kill(device.pid, signal.SIGSTOP)
        last, asked = device.send([make_job(9)], 0), asyncio.create_task(device.reload("none", None))
        await asyncio.sleep(0)
        os.kill(device.pid, signal.SIGKILL)
        for waiting in (last, asked):
            with pytest.raises(DeviceLost, match="ended by signal 9"):
                await waiting
        assert "signal 9" in device.lost
        with pytest.raises(DeviceLost):
            await device.send([make_job(10)], 0)


async def test_what_cannot_be_handed_over_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh device nothing is mapped yet; later memory may run out."""
    house = House(devices=[partial(ProcessDevice, SPEC, "cpu")], max_frames=1)
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        empty = make_job(0)
        empty.encoded = EncodedImage(ImageFormat.PNG, WIDTH, HEIGHT, b"")
        house.submit(empty)
        await house.settled()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            large = [make_job(n, size=(2_000, 1_000), payload=os.urandom(3_000_000)) for n in range(1, 6)]
            house.submit(*large)
            await house.settled()
        house.submit(make_job(9))
        await house.settled()
        assert house.supervisor.healthy
    assert house.results[0].outcome is Outcome.FAILED and empty.image_broken
    assert all("No space" in house.results[n].reason and not house.jobs[n].image_broken for n in range(1, 6))
    assert house.results[9].outcome is Outcome.ENHANCED


def full(descriptor: int, data: bytes, start: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_frame_that_cannot_be_encoded_beside_the_device_fails_alone() -> None:
    """Its fault may come in one piece with what the batch gave."""
    too_wide = [make_job(n, size=(16_384, 2)) for n in range(3)]
    for job in too_wide:
        job.encoding = Encoding(ImageFormat.WEBP, 50)
    house = House(devices=[partial(HearsAllAtOnce, HELPED, "cpu")], max_frames=3)
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        house.submit(*too_wide)
        await house.settled()
        house.submit(make_job(9))
        await house.settled()
        assert house.supervisor.healthy
    assert [house.results[n].outcome for n in (0, 1, 2, 9)] == [Outcome.FAILED] * 3 + [Outcome.ENHANCED]
    assert "16383" in house.results[0].reason


class HearsAllAtOnce(ProcessDevice):
    """Hears of a batch and of its images at once, as a node does whose loop was busy."""

    def data_received(self, data: bytes) -> None:
        self._heard = getattr(self, "_heard", b"") + data
        if self.models and len(self._images_of(self._heard)) < self._expected:
            return
        heard, self._heard = self._heard, b""
        super().data_received(heard)

    def _images_of(self, data: bytes) -> list[object]:
        return [message for message in Inbox().add(data) if isinstance(message, Image)]

    @property
    def _expected(self) -> int:
        return sum(len(flight.jobs) for flight in self._flights.values())


async def test_an_engine_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    device = ProcessDevice(EngineSpec("cpu", {"fast": tmp_path / "none.safetensors"}, threads=1))
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        await device.start()
    device.leave()
    assert await device.ended(60)


async def test_a_process_that_hangs_or_dies_is_replaced_and_its_frames_go_elsewhere() -> None:
    devices: list[ProcessDevice] = []

    def make() -> ProcessDevice:
        devices.append(ProcessDevice(HELPED, "cpu"))
        return devices[-1]

    house = House(devices=[make], max_frames=2, stuck_after_s=2.0, restarts=RestartLimit(3, 600.0, 0.01))
    async with house.running() as running:
        await house.until(lambda: house.supervisor.healthy)
        os.kill(devices[0].pid, signal.SIGSTOP)  # a driver that hangs
        house.submit(make_job(0), make_job(1), make_job(2))
        await house.until(lambda: {0, 1} <= house.returned.keys())
        assert "within 2 s" in house.returned[0]
        patient(house)
        await house.until(lambda: house.supervisor.healthy)
        await house.until(lambda: over(devices[0].pid))
        house.submit(make_job(3))
        await house.until(lambda: 3 in house.results)
        os.kill(devices[-1].pid, signal.SIGKILL)  # with nothing on it
        before = len(devices)
        await house.until(lambda: len(devices) > before and house.supervisor.healthy)
        house.submit(make_job(4))
        await house.until(lambda: 4 in house.results)
        while not running.done():
            before = len(devices)
            os.kill(devices[-1].pid, signal.SIGKILL)
            await house.until(lambda: running.done() or (len(devices) > before and house.supervisor.healthy))  # noqa: B023
        with pytest.raises(DeviceError, match="given up"):
            await running
    assert house.results[3].outcome is house.results[4].outcome is Outcome.ENHANCED


def patient(house: House) -> None:
    """From now on a busy machine is no hung device."""
    [worker] = house.workers
    worker.dispatch.stuck_after_s = worker.handover.encoded_within_s = 60.0


def over(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_what_was_in_line_when_the_process_died_did_not_begin() -> None:
    """So it is no suspect; both of these never began, since the process was stopped before."""
    async with started(ProcessDevice(SPEC, "cpu")) as device:
        assert os.getpgid(device.pid) == device.pid != os.getpgid(0), "a terminal's Ctrl-C is not for it"
        os.kill(device.pid, signal.SIGSTOP)
        flights = [device.send([make_job(n)], 0) for n in range(2)]
        os.kill(device.pid, signal.SIGKILL)
        for flight in flights:
            with pytest.raises(DeviceLost, match="signal 9"):
                await flight
            assert flight.revoke()
        late = device.send([make_job(2)], 0)
        with pytest.raises(DeviceLost, match="signal 9"):
            await late
        assert late.revoke()


async def test_a_process_that_stops_with_images_outstanding_is_replaced() -> None:
    devices: list[ProcessDevice] = []

    def make() -> ProcessDevice:
        devices.append((ProcessDevice if devices else KeepsImages)(HELPED, "cpu"))
        return devices[-1]

    house = House(devices=[make], max_frames=8, stuck_after_s=3.0, restarts=RestartLimit(3, 600.0, 0.01))
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        house.workers[0].dispatch.stuck_after_s = 60.0  # it is the images that do not come
        house.submit(*map(make_job, range(8)))
        await house.settled()
        assert "not encoded within 3 s" in house.returned[0]
        patient(house)
        await house.until(lambda: len(devices) > 1 and house.supervisor.healthy)
        house.submit(make_job(9))
        await house.until(lambda: 9 in house.results)
    assert set(house.returned) == set(range(8))


class KeepsImages(ProcessDevice):
    """Its images never come."""

    def _received(self, message: object) -> None:
        if not isinstance(message, Image):
            super()._received(message)


async def test_a_process_that_does_not_take_weights_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[ProcessDevice] = []

    def make() -> ProcessDevice:
        devices.append(ProcessDevice(SPEC, "cpu"))
        return devices[-1]

    house = House(devices=[make], restarts=RestartLimit(3, 600.0, 0.01))
    async with house.running():
        await house.until(lambda: house.supervisor.healthy)
        os.kill(devices[0].pid, signal.SIGSTOP)
        monkeypatch.setattr(worker, "READY_S", 0.2)
        asked = asyncio.create_task(house.supervisor.reload("none", None))
        await house.until(lambda: house.workers[0].counts["lost"])
        monkeypatch.undo()
        async with asyncio.timeout(60):
            assert await asked == "none-0"
    assert len(devices) > 1


async def test_a_process_that_cannot_go_on_says_why(caplog: pytest.LogCaptureFixture) -> None:
    async with started(ProcessDevice(SPEC, "cpu")) as device:
        assert device._transport is not None
        flight = device.send([make_job(0)], 0)
        await flight
        device._transport.write(LENGTH.pack(3) + b"???")
        waiting = asyncio.create_task(device.reload("none", None))
        with pytest.raises(DeviceLost, match="exit code 1"):
            await waiting
        assert "UnpicklingError" in caplog.text


async def test_batches_that_are_taken_back_leave_the_next_alone() -> None:
    async with started(ProcessDevice(HELPED, "cpu")) as device:
        for turn in range(20):
            first, back = (device.send([make_job(n) for n in range(turn, turn + 4)], 0) for _ in range(2))
            if back.revoke():
                back, shown = device.send([make_job(n) for n in range(100, 104)], 0), list(range(100, 104))
            else:  # the process was quicker
                shown = list(range(turn, turn + 4))
            assert await sequences(await back) == shown
            assert await sequences(await first) == list(range(turn, turn + 4))


def test_it_ends_with_the_node_that_is_killed() -> None:
    node = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert node.stdout is not None
    device = psutil.Process(int(node.stdout.readline()))
    node.kill()
    node.wait()
    node.stdout.close()
    psutil.wait_procs([device], timeout=60)
    assert not device.is_running() or device.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform pins no threads")
def test_a_processor_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pin("cpu", frozenset([4_095]))
    assert "cpu is not kept to processors 4095" in caplog.text
