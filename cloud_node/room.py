"""What goes for a frame where there is no room for all: less urgent frames, then those of edges that had more."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cloud_node.jobs import Job
from cloud_node.load import Load
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.settings import Limits
from common.frame import Priority

LAST = max(Priority)
MOST_VICTIMS = 64  # frames of its own priority that go for one; work for each that is refused


class _Held(NamedTuple):
    """Frames, all together."""

    frames: int
    bytes: int
    pixels: int

    def without(self, frames: int, size: int, pixels: int) -> "_Held":
        return _Held(self.frames - frames, self.bytes - size, self.pixels - pixels)


class Room:
    """Bounds what waits. Decides alone: whatever goes is the caller's to take out.

    Args:
        devices: how many devices work now.
    """

    def __init__(self, limits: Limits, scheduler: Scheduler[Job], load: Load, devices: Callable[[], int]) -> None:
        self.limits, self.scheduler, self.load, self.devices = limits, scheduler, load, devices

    def victims(self, ticket: Ticket[Job], queued_bytes: int) -> tuple[list[Ticket[Job]], str]:
        """What has to go for a frame, and why the queue is full ("" if it is not).

        Less urgent ones first, then up to `MOST_VICTIMS` of `Scheduler.rivals`, or as many as make up a large frame's
        bytes. Where it is full and nothing goes, there is not enough: whether there can be is known from what each
        priority holds, before any frame is looked at.

        Args:
            queued_bytes: of all frames that wait or are on their way to a device.
        """
        everything = self._held(LAST, queued_bytes)
        full = self._full(everything, ticket)
        if not full:
            return [], ""
        less_urgent, rest = self.scheduler.less_urgent(ticket.priority), self._held(ticket.priority, queued_bytes)
        if not self._full(rest, ticket):
            return self._enough(less_urgent, everything, ticket), full
        rivals = self._few(self.scheduler.rivals(ticket), rest, ticket)
        if self._full(self._held(ticket.priority - 1, queued_bytes), ticket):
            return [], full
        go = self._enough(rivals, rest, ticket)
        return (go and [*less_urgent, *go]), full

    def _held(self, priority: int, queued_bytes: int) -> _Held:
        """What there is here that is as urgent as a frame of this priority, or more, or is on its way to a device."""
        queue = self.scheduler
        return _Held(
            len(queue) - queue.frames_ahead(LAST) + queue.frames_ahead(priority),
            queued_bytes - queue.bytes_ahead(LAST) + queue.bytes_ahead(priority),
            queue.pixels_ahead(priority),
        )

    def _few(self, rivals: Iterable[Ticket[Job]], held: _Held, ticket: Ticket[Job]) -> Iterator[Ticket[Job]]:
        """Of these the first `MOST_VICTIMS`, and more as long as they are less than what they go for, in bytes.

        No more, if all of them would not be enough.
        """
        total = 0
        for number, rival in enumerate(rivals):
            if number >= MOST_VICTIMS and total >= ticket.bytes:
                return
            if number == MOST_VICTIMS and self._full(held.without(*self.scheduler.rivals_held(ticket)), ticket):
                return
            total += rival.bytes
            yield rival

    def _enough(self, victims: Iterable[Ticket[Job]], held: _Held, ticket: Ticket[Job]) -> list[Ticket[Job]]:
        """The first of these without which there is room; none if all of them are too few."""
        limits, wait_ms, devices = self.limits, self.load.wait_ms, self.devices()
        frames, size, pixels = held
        room = max(0, limits.max_queued_mib * 2**20 - ticket.bytes)
        go: list[Ticket[Job]] = []
        for victim in victims:  # which may be thousands: as `_full`, without a word
            go.append(victim)
            frames, size, pixels = frames - 1, size - victim.bytes, pixels - victim.pixels
            if frames >= limits.max_queued or size > room:
                continue
            if not 0 < limits.shed_after_ms < wait_ms(pixels, devices):
                return go
        return []

    def _full(self, held: _Held, ticket: Ticket[Job]) -> str:
        """Why one more frame does not fit beside these; "" if it does."""
        limits = self.limits
        wait_ms = self.load.wait_ms(held.pixels, self.devices())
        if held.frames >= limits.max_queued:
            return f"{limits.max_queued:,} frames wait already"
        if held.bytes > 0 and held.bytes + ticket.bytes > limits.max_queued_mib * 2**20:
            return f"frames of {limits.max_queued_mib:,} MiB wait already"
        if 0 < limits.shed_after_ms < wait_ms:
            return f"frames wait for about {wait_ms:,.0f} ms already"
        return ""
