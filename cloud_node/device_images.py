"""Images that the process of a device still has to encode, and those that are fetched from the memory they came in."""

import asyncio
from collections.abc import Callable
from functools import partial

from cloud_node.device_memory import Stretch
from cloud_node.device_wire import Fault, Fetched, Stored, with_content
from cloud_node.jobs import Job
from cloud_node.mover import Mover
from common.errors import DeviceLost
from common.packing import EncodedImage, PackedImage

Image = PackedImage | EncodedImage


class Images:
    """Of one process. An image that it had finished comes, also when the process is gone by then."""

    def __init__(self, memory: Stretch, mover: Mover, write: Callable[[Fetched], None]) -> None:
        self._memory, self._mover, self._write = memory, mover, write
        self._awaited: dict[tuple[int, int], tuple[Job, asyncio.Future[Image]]] = {}

    def job(self, number: int, index: int) -> Job | None:
        """Whose image is still to come."""
        found = self._awaited.get((number, index))
        return None if found is None else found[0]

    def expect(self, number: int, index: int, job: Job) -> "asyncio.Future[Image]":
        """An image that comes by itself. The future raises DeviceLost when it never will."""
        image: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self._awaited[number, index] = job, image
        return image

    def arrived(self, number: int, index: int, what: Image | Stored | Fault) -> None:
        """An image that was expected."""
        _, image = self._awaited.pop((number, index), (None, None))
        if image is not None:
            self._take(image, what)

    def at_hand(self, what: Image | Stored | Fault) -> "asyncio.Future[Image]":
        """An image that came with its batch."""
        image: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self._take(image, what)
        return image

    def lose(self, lost: DeviceLost) -> None:
        """No more come."""
        for _, image in self._awaited.values():
            if not image.done():
                image.set_exception(lost)
                image.exception()  # nobody has to ask
        self._awaited.clear()

    def _take(self, image: "asyncio.Future[Image]", what: Image | Stored | Fault) -> None:
        if isinstance(what, Stored):
            work = partial(self._memory.read, what.start, what.size)
            self._mover.do(what.size, work, partial(self._fetched, image, what))
        elif image.done():
            return
        elif isinstance(what, Fault):
            image.set_exception(what.error)
        else:
            image.set_result(what)

    def _fetched(self, image: "asyncio.Future[Image]", stored: Stored, content: bytes | Exception) -> None:
        self._write(Fetched(stored.start))
        if image.done():
            return
        if isinstance(content, Exception):
            image.set_exception(content)
        else:
            image.set_result(with_content(stored.image, content))
