"""Frames that a device was lost with: each then goes alone, and what takes a device with it again is refused."""

import hashlib
from collections import Counter, OrderedDict
from typing import Final

from cloud_node.jobs import Encoding, Job, ticket
from cloud_node.scheduler import Ticket

REMEMBERED: Final = 1_024  # frames

Key = tuple[str, Encoding, bytes]


class Suspects:
    """One for all devices of a node. A frame is known by what is in it: it may come again under another name.

    A suspect shares the device with nothing else, so that no other frame is blamed for what it does, and is cleared
    when the device outlives it.
    """

    def __init__(self) -> None:
        self._guilty: OrderedDict[Key, bool] = OrderedDict()  # the latest at the end
        self._sizes: Counter[int] = Counter()  # so that few frames need to be looked at

    def ticket(self, job: Job, width: int, height: int, expires_ns: int) -> Ticket[Job]:
        """As `jobs.ticket`; a suspect gets a batch of its own."""
        job.alone = job in self
        return ticket(job, width, height, expires_ns)

    def __contains__(self, job: Job) -> bool:
        """Whether a device was lost with such a frame before."""
        return len(_content(job)) in self._sizes and _key(job) in self._guilty

    def guilty(self, job: Job) -> bool:
        """Whether two were."""
        return len(_content(job)) in self._sizes and self._guilty.get(_key(job), False)

    def blame(self, job: Job) -> bool:
        """A device was lost with it; True if that must be why."""
        key = _key(job)
        if key not in self._guilty:
            self._guilty[key] = False
            self._sizes[len(_content(job))] += 1
        elif job.alone:
            self._guilty[key] = True
        self._guilty.move_to_end(key)
        while len(self._guilty) > REMEMBERED:
            self._forget(next(iter(self._guilty)))
        return self._guilty.get(key, False)

    def clear(self, job: Job) -> None:
        """The device outlived it."""
        if job in self and not self.guilty(job):
            self._forget(_key(job))

    def _forget(self, key: Key) -> None:
        del self._guilty[key]
        size = int.from_bytes(key[2][:8], "little")
        self._sizes[size] -= 1
        if not self._sizes[size]:
            del self._sizes[size]


def _content(job: Job) -> bytes:
    return job.encoded.data if job.encoded is not None else job.frame.image.payload


def _key(job: Job) -> Key:
    content = _content(job)
    digest = len(content).to_bytes(8, "little") + hashlib.blake2b(content, digest_size=16).digest()
    return job.preset, job.encoding, digest
