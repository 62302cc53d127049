"""What a worker has of a device."""

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from cloud_node.batches import Done
from cloud_node.jobs import Encoding, Job
from cloud_node.outputs import Away, Enhanced
from common.packing import EncodedImage, PackedImage


class Flight(Awaitable[Done | None], Protocol):
    """A batch on its way: await what becomes of it. None: a deadline passed before it began, it must be chosen anew.

    Raises DeviceLost when nothing will come of it.
    """

    def revoke(self) -> bool:
        """True if it did not begin; it never will."""


class Device(Protocol):
    """A device from its start to its loss; after that another takes its place. For one event loop."""

    models: dict[str, str]  # preset -> version, the default first
    lost: str  # why it can be used no longer; "" while it can
    on_lost: Callable[[], None]  # called when `lost` was set

    @property
    def pid(self) -> int:
        """Of its process; 0 = it has none."""

    def cpu_s(self) -> float:
        """Processor seconds of its process, also when that has ended; 0 = it has none, or nobody tells."""

    async def start(self) -> None:
        """Build the engine and warm it up. Raises LamplightError as the engine does."""

    def send(self, jobs: list[Job], expires_ns: int) -> Flight:
        """Hand it a batch after those that it has, two at most; to begin before `expires_ns` (monotonic; 0 = ever)."""

    async def encode(self, output: Enhanced | Away, encoding: Encoding) -> PackedImage | EncodedImage:
        """An output as it is to be sent. Raises DeviceLost when it is gone."""

    async def reload(self, preset: str, weights: Path | None) -> str:
        """Other weights for a preset, beside the batches; returns the model's version. Raises WeightsError."""

    def held(self) -> Collection[Job]:
        """What its threads are at, or were when it ended by itself: one of these may be why it did."""

    def leave(self) -> None:
        """No more batches, and nothing is waited for; a device that hangs is left behind."""

    async def ended(self, timeout_s: float) -> bool:
        """Whether it has ended within `timeout_s`; call `leave` before."""


def helpers_of(cpus: Sequence[int], device: str, devices: int) -> int:
    """Threads that unpack and encode beside a device: none on a CPU whose processors the network has all anyway."""
    return 0 if device == "cpu" and not cpus else max(2, (os.cpu_count() or 2) // devices)
