"""Files through one engine: read and written on threads of their own, in batches of one size on the device."""

import os
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from cloud_node.archive.files import Archive
from cloud_node.engine import Engine, Pending
from cloud_node.enhance import read
from cloud_node.outputs import Enhanced
from common.errors import LamplightError, OutOfDeviceMemory
from common.pixels import Bytes, RawImage

BATCH_PIXELS = {"cuda": 4 * 1024 * 1024}  # by device; a CPU gains nothing from large batches
CPU_PIXELS = 1024 * 1024
AHEAD = 4  # batches that may be read and wait for others of their size


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an image."""

    image: str
    pixels: int = 0
    reason: str = ""  # why there is no enhanced one
    was_there: bool = False  # it was enhanced before


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one engine's work."""

    batch_pixels: int = 0  # 0 = by device
    batch_frames: int = 32
    threads: int = 2  # for files
    quality: int = 95  # of JPEG and WebP


class Pipeline:
    """Enhances images of one archive with one engine."""

    def __init__(self, archive: Archive, engine: Engine, limits: Limits) -> None:
        self.archive, self.engine, self.limits = archive, engine, limits
        self._batch_pixels = limits.batch_pixels or BATCH_PIXELS.get(engine.device.type, CPU_PIXELS)
        self._waiting: dict[tuple[int, int], list[tuple[str, RawImage]]] = defaultdict(list)  # by size
        self._on_device: deque[tuple[list[tuple[str, RawImage]], Pending | None]] = deque()
        self._writing: set[Future[Done]] = set()

    def run(self, images: Iterable[str]) -> Iterator[Done]:
        """Enhance what is not there yet; yields what became of each image, in no order.

        Raises:
            SourceError: nothing can be written. DeviceError: the device failed.
        """
        with ThreadPoolExecutor(self.limits.threads, "files", _step_back) as files:
            for image, source in self._read(iter(images), files):
                if isinstance(source, Done):
                    yield source
                    continue
                same = self._waiting[source.width, source.height]
                same.append((image, source))
                if self._is_full(same):
                    self._start(same, files)
                elif sum(_pixels(batch) for batch in self._waiting.values()) > AHEAD * self._batch_pixels:
                    self._start(max(self._waiting.values(), key=_pixels), files)
                yield from self._written(2 * self.limits.batch_frames)
            for same in list(self._waiting.values()):
                self._start(same, files)
            while self._on_device:
                self._finish(files)
            yield from self._written(0)

    def _read(self, images: Iterator[str], files: ThreadPoolExecutor) -> Iterator[tuple[str, RawImage | Done]]:
        """Images in their order, read ahead, or what there is to say of them instead."""
        ahead: deque[tuple[str, Future[RawImage | Done]]] = deque()
        for image in images:
            ahead.append((image, files.submit(self._source, image)))
            if len(ahead) > 2 * self.limits.threads:
                image, source = ahead.popleft()
                yield image, source.result()
        for image, source in ahead:
            yield image, source.result()

    def _source(self, image: str) -> RawImage | Done:
        if self.archive.is_done(image):
            return Done(image, was_there=True)
        try:
            return read(self.archive.source / image)
        except LamplightError as error:
            return Done(image, reason=str(error))

    def _is_full(self, batch: list[tuple[str, RawImage]]) -> bool:
        one = batch[0][1].width * batch[0][1].height
        return len(batch) >= self.limits.batch_frames or (len(batch) + 1) * one > self._batch_pixels

    def _start(self, batch: list[tuple[str, RawImage]], files: ThreadPoolExecutor) -> None:
        """Onto the device; the batch before the last comes off it."""
        del self._waiting[batch[0][1].width, batch[0][1].height]
        self._on_device.append((batch, self._submitted(batch)))
        while len(self._on_device) > 1:
            self._finish(files)

    def _finish(self, files: ThreadPoolExecutor) -> None:
        batch, pending = self._on_device.popleft()
        for (image, source), output in zip(batch, self._lit(batch, pending), strict=True):
            self._writing.add(files.submit(self._write, image, source, output))

    def _submitted(self, batch: list[tuple[str, RawImage]]) -> Pending | None:
        """None when the device has no memory for it."""
        try:
            return self.engine.submit([source for _, source in batch])
        except OutOfDeviceMemory:
            return None

    def _lit(self, batch: list[tuple[str, RawImage]], pending: Pending | None) -> list[Enhanced | str]:
        """Of the batch, in halves when the device has no memory for it; a word instead of one that is too large."""
        if pending is not None:
            try:
                return list(pending.result())
            except OutOfDeviceMemory:
                pass
        if len(batch) == 1:
            return [f"{self.engine.device} has no memory for {batch[0][1].width}x{batch[0][1].height}"]
        middle = len(batch) // 2
        halves = (batch[:middle], batch[middle:])
        return [output for half in halves for output in self._lit(half, self._submitted(half))]

    def _write(self, image: str, source: RawImage, output: Enhanced | str) -> Done:
        if isinstance(output, str):
            return Done(image, reason=output)
        if not output.finite:
            return Done(image, reason="the network gave values that are not numbers")
        suffix = self.archive.target_of(image).suffix
        try:
            data = _encoded(output.rgb, suffix, self.limits.quality)
        except Exception as error:  # formats have bounds, as WebP 16,383 pixels a side; Pillow has an error for each
            return Done(image, reason=f"it cannot be written as {suffix}: {error}")
        self.archive.write(image, data)
        return Done(image, source.width * source.height)

    def _written(self, at_most: int) -> Iterator[Done]:
        """What has been written, until `at_most` are still being."""
        while self._writing:
            full = len(self._writing) > at_most
            done, self._writing = wait(self._writing, None if full else 0, FIRST_COMPLETED)
            if not done:
                return
            for future in done:
                yield future.result()


def _encoded(rgb: Bytes, suffix: str, quality: int) -> bytes:
    file = BytesIO()
    Image.fromarray(rgb).save(file, Image.registered_extensions()[suffix.lower()], quality=quality)
    return file.getvalue()


def _step_back() -> None:
    """Files wait for the network's threads rather than hold one of them up, which would hold up all: on Linux alone a
    thread has a priority of its own.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _pixels(batch: list[tuple[str, RawImage]]) -> int:
    return sum(source.width * source.height for _, source in batch)
