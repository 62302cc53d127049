"""One batch on a device, so that one frame's fault is not another's."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cloud_node.jobs import Job
from cloud_node.outputs import Away, Enhanced
from common.errors import DeviceError, DeviceLost, LamplightError, OutOfDeviceMemory, WeightsError
from common.pixels import PixelFormat, RawImage

if TYPE_CHECKING:
    from cloud_node.engine import Engine

log = logging.getLogger(__name__)

Pixels = RawImage | Exception  # an image, or why there is none

PROBE = RawImage(np.full(64 * 64, 20, np.uint8), 64, 64, PixelFormat.GRAY8)


@dataclass(slots=True)
class BatchResult:
    """What became of a batch.

    `results` has an entry for each image: enhanced, why it failed, or None if the device was lost before.
    `lost` says why it was; "" if it was not. `fits_pixels` is what the device had memory for at once; 0 if for all.
    """

    results: list[Enhanced | Away | Exception | None]
    lost: str = ""
    fits_pixels: int = 0


def enhance(engine: "Engine", images: Sequence[RawImage], preset: str) -> BatchResult:
    """Enhance images of one size, on the engine's thread. What the engine raises is in the result.

    A part that does not fit into memory, or fails otherwise, is halved and tried again in order, down to single
    images. At the first fault that memory for fewer images would not cure, a small image shows whether the device
    still works: if it does, the images are at fault and fail alone; if not, the device is lost.
    """
    batch = BatchResult([None] * len(images))
    width, height = images[0].width, images[0].height
    parts, probed = [(0, len(images))], False
    while parts:
        start, end = parts.pop()
        try:
            outputs = engine.enhance(images[start:end], preset)
            if len(outputs) != end - start:
                raise DeviceError(f"{engine.device} gave {len(outputs)} images for {end - start}")
        except DeviceLost as error:
            batch.lost = str(error) or repr(error)
            return batch
        except OutOfDeviceMemory:
            batch.fits_pixels = batch.fits_pixels or width * height
            fault = f"{engine.device} has no memory for a frame of {width}x{height}: send smaller ones"
            doubtful = end - start == 1
        except Exception as error:
            if not isinstance(error, LamplightError):
                log.exception("%s failed", engine.device)
            fault = str(error) or repr(error)
            doubtful = not isinstance(error, WeightsError)  # of a preset that is not served
        else:
            batch.results[start:end] = outputs
            if batch.fits_pixels:
                batch.fits_pixels = max(batch.fits_pixels, (end - start) * width * height)
            continue
        if doubtful and not probed:
            probed, reason = True, _probe(engine, preset)
            if reason:
                batch.lost = f"{engine.device} fails even for a small image: {reason}"
                return batch
        if end - start > 1:
            middle = (start + end + 1) // 2
            parts += [(middle, end), (start, middle)]
        else:
            # Not the engine's own error: its traceback would keep the device's memory.
            batch.results[start] = DeviceError(fault)
    return batch


def _probe(engine: "Engine", preset: str) -> str:
    """Why the device cannot do the simplest thing; "" if it can."""
    try:
        engine.enhance([PROBE], preset)
    except Exception as error:
        return str(error) or repr(error)
    return ""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a batch, and when."""

    result: BatchResult
    began_ns: int  # on the device's thread, monotonic
    start_unix_ns: int  # the same
    start_ns: int  # the same, performance counter
    network_unix_ns: int
    network_ns: int  # in the engine
    device_ns: int  # on the thread

    @property
    def times(self) -> tuple[int, ...]:
        return (
            self.began_ns,
            self.start_unix_ns,
            self.start_ns,
            self.network_unix_ns,
            self.network_ns,
            self.device_ns,
        )


@dataclass(frozen=True, slots=True)
class Done:
    """Jobs that come back from a device.

    A job that is in neither `enhanced` nor `failed` must be done elsewhere: the device was lost.
    """

    jobs: list[Job]
    ran: Ran

    @property
    def enhanced(self) -> list[tuple[Job, Enhanced | Away]]:
        """Also those whose values are not numbers."""
        return [(job, output) for job, output in self._pairs() if isinstance(output, Enhanced | Away)]

    @property
    def failed(self) -> list[tuple[Job, Exception]]:
        return [(job, output) for job, output in self._pairs() if isinstance(output, Exception)]

    @property
    def left(self) -> list[Job]:
        return [job for job, output in self._pairs() if output is None]

    def _pairs(self) -> list[tuple[Job, Enhanced | Away | Exception | None]]:
        return list(zip(self.jobs, self.ran.result.results, strict=True))


def run(engine: "Engine", preset: str, unpack: Callable[[], list[Pixels]]) -> Ran:
    """Unpack and enhance images of one bucket, on the engine's thread."""
    began_ns, start_unix_ns, start_ns = time.monotonic_ns(), time.time_ns(), time.perf_counter_ns()
    images = unpack()
    whole = BatchResult([None if isinstance(image, RawImage) else image for image in images])
    ready = [(index, image) for index, image in enumerate(images) if isinstance(image, RawImage)]
    network_unix_ns, network_start_ns = time.time_ns(), time.perf_counter_ns()
    if ready:
        part = enhance(engine, [image for _, image in ready], preset)
        whole.lost, whole.fits_pixels = part.lost, part.fits_pixels
        for (index, _), output in zip(ready, part.results, strict=True):
            whole.results[index] = output
    now_ns = time.perf_counter_ns()
    times = (began_ns, start_unix_ns, start_ns, network_unix_ns, now_ns - network_start_ns, now_ns - start_ns)
    return Ran(whole, *times)
