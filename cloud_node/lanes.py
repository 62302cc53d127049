"""Batches to a device and back: on a GPU the copies of one batch run beside the computing of another."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cloud_node.backends import Step
from cloud_node.color import Form, tensor_of
from common.pixels import Bytes, RawImage

SHAPES = 8  # of batches that keep their buffers

Lit = tuple[Bytes, npt.NDArray[np.float32]]  # (B, H, W, 3), and the measures (B, 3)


class Lanes(Protocol):
    """Called by one thread."""

    def start(self, step: Step, images: Sequence[RawImage], form: Form) -> Callable[[], Lit]:
        """Start a step on images of one form; what it returns waits for the end and gives the output, once."""


def lanes_of(device: torch.device) -> Lanes:
    return Staged(device) if device.type == "cuda" else Direct(device)


class Direct:
    """No lanes: the work is done when `start` returns."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self, step: Step, images: Sequence[RawImage], form: Form) -> Callable[[], Lit]:
        rows = [tensor_of(image) for image in images]
        raw = rows[0][None] if len(rows) == 1 else torch.stack(rows)
        rgb, measures = step(raw.to(self._device), form)
        lit = (rgb.cpu().numpy(), measures.cpu().numpy())
        return lambda: lit


class _Buffers:
    """For one batch of one shape, on both sides of the bus, and what says that each stretch is done."""

    def __init__(
        self, frames: int, size: int, form: Form, device: torch.device, streams: ModuleType, pin: bool
    ) -> None:
        shape = (frames, form.height, form.width, 3)
        self.raw_host = torch.empty(frames, size, dtype=torch.uint8, pin_memory=pin)
        self.rgb_host = torch.empty(shape, dtype=torch.uint8, pin_memory=pin)
        self.measures_host = torch.empty(frames, 3, pin_memory=pin)
        self.raw = torch.empty_like(self.raw_host, device=device)
        self.rgb, self.measures = torch.empty_like(self.rgb_host, device=device), torch.empty(frames, 3, device=device)
        self.arrived, self.lit, self.done = (streams.Event() for _ in range(3))


class Staged:
    """Three streams: in, compute, out. Buffers are pinned, kept for the shapes that came last, and used by one batch
    at a time, from `start` until its output was taken; so a stream waits only for what the same batch did before.

    On a CPU torch's streams do nothing, and this is the same logic without the overlap: for tests.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._pin = device, device.type == "cuda"
        self._streams: Any = torch.cuda if self._pin else torch.cpu
        self._in, self._compute, self._out = (
            torch.cuda.Stream(device) if self._pin else torch.cpu.Stream() for _ in range(3)
        )
        self._free: OrderedDict[tuple[int, int, Form], list[_Buffers]] = OrderedDict()

    def start(self, step: Step, images: Sequence[RawImage], form: Form) -> Callable[[], Lit]:
        key = (len(images), images[0].data.size, form)
        buffers = self._take(key)
        try:
            return self._start(step, images, form, key, buffers)
        except BaseException:
            with suppress(RuntimeError):  # nothing may still be written when the buffers go
                self._streams.synchronize(self._device)
            raise

    def _start(
        self, step: Step, images: Sequence[RawImage], form: Form, key: Any, buffers: _Buffers
    ) -> Callable[[], Lit]:
        for row, image in zip(buffers.raw_host.numpy(), images, strict=True):
            row[:] = image.data
        on = self._streams.stream
        with on(self._in):
            buffers.raw.copy_(buffers.raw_host, non_blocking=True)
            buffers.arrived.record(self._in)
        with on(self._compute):
            self._compute.wait_event(buffers.arrived)
            rgb, measures = step(buffers.raw, form)
            # Into buffers of this batch: what a CUDA graph gives is overwritten by the next batch.
            buffers.rgb.copy_(rgb)
            buffers.measures.copy_(measures)
            buffers.lit.record(self._compute)
        with on(self._out):
            self._out.wait_event(buffers.lit)
            buffers.rgb_host.copy_(buffers.rgb, non_blocking=True)
            buffers.measures_host.copy_(buffers.measures, non_blocking=True)
            buffers.done.record(self._out)

        def collect() -> Lit:
            buffers.done.synchronize()
            lit = (buffers.rgb_host.numpy().copy(), buffers.measures_host.numpy().copy())
            self._give_back(key, buffers)
            return lit

        return collect

    def _take(self, key: tuple[int, int, Form]) -> _Buffers:
        free = self._free.get(key)
        if free:
            return free.pop()
        with self._streams.stream(self._in):  # memory that this stream alone had before
            return _Buffers(*key, self._device, self._streams, self._pin)

    def _give_back(self, key: tuple[int, int, Form], buffers: _Buffers) -> None:
        self._free.setdefault(key, []).append(buffers)
        self._free.move_to_end(key)
        while len(self._free) > SHAPES:
            self._free.popitem(last=False)
