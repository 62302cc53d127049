"""A whole archive: every device of this machine, or of a Ray cluster, takes from one list of images."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from cloud_node.archive.files import Archive
from cloud_node.archive.pipeline import Done, Limits, Pipeline
from cloud_node.engine import Engine
from common.errors import SourceError


@dataclass(slots=True)
class Report:
    """What was done, and what could not be.

    Args:
        file: where broken images are listed, one JSON object a line, as they come; there is none without any.

    Raises:
        SourceError: the list cannot be written.
    """

    file: Path
    enhanced: int = 0
    there: int = 0
    pixels: int = 0
    broken: int = 0

    def __post_init__(self) -> None:
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise SourceError(f"cannot write {self.file}: {error.strerror or error}") from None

    def add(self, done: Done) -> None:
        """Raises SourceError as above."""
        if done.reason:
            self.broken += 1
            self._list(done)
        elif done.was_there:
            self.there += 1
        else:
            self.enhanced += 1
            self.pixels += done.pixels

    def _list(self, done: Done) -> None:
        try:
            with self.file.open("a", encoding="ascii") as file:
                file.write(json.dumps({"image": done.image, "reason": done.reason}) + "\n")
        except OSError as error:
            raise SourceError(f"cannot write {self.file}: {error.strerror or error}") from None


def enhance_here(archive: Archive, engines: Iterable[Callable[[], Engine]], limits: Limits) -> Iterator[Done]:
    """With one engine on a thread each; they are made there.

    Raises: as `Pipeline.run`, once the other engines have stopped.
    """
    shared, ends = _Shared(archive.images()), list(engines)
    results: SimpleQueue[Done | BaseException | None] = SimpleQueue()

    def work(make: Callable[[], Engine]) -> None:
        try:
            for done in Pipeline(archive, make(), limits).run(shared):
                results.put(done)
        except BaseException as error:
            results.put(error)
        results.put(None)

    threads = [threading.Thread(target=work, args=(make,), name=f"engine {n}") for n, make in enumerate(ends)]
    for thread in threads:
        thread.start()
    failure: BaseException | None = None
    try:
        working = len(threads)
        while working:
            match results.get():
                case None:
                    working -= 1
                case Done() as done:
                    yield done
                case BaseException() as error:
                    failure = failure or error
                    shared.stop()
    finally:
        shared.stop()
        for thread in threads:
            thread.join()
    if failure is not None:
        raise failure


class _Shared:
    """One iterator for several threads."""

    def __init__(self, images: Iterator[str]) -> None:
        self._images, self._lock, self._stopped = images, threading.Lock(), False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self._lock:
            if self._stopped:
                raise StopIteration
            return next(self._images)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
