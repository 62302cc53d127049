"""A whole archive: every device of this machine, or of a Ray cluster, takes from one list of images."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from cloud_node.archive.files import Archive
from cloud_node.archive.pipeline import Done, Limits, Pipeline
from cloud_node.engine import Engine


@dataclass(slots=True)
class Report:
    """What was done, and what could not be."""

    enhanced: int = 0
    there: int = 0
    pixels: int = 0
    broken: dict[str, str] = field(default_factory=dict)  # image -> reason

    def add(self, done: Done) -> None:
        if done.reason:
            self.broken[done.image] = done.reason
        elif done.was_there:
            self.there += 1
        else:
            self.enhanced += 1
            self.pixels += done.pixels

    def write(self, file: Path) -> None:
        """The broken images, one JSON object a line; no file when there are none."""
        if not self.broken:
            return file.unlink(missing_ok=True)
        lines = (json.dumps({"image": image, "reason": self.broken[image]}) for image in sorted(self.broken))
        file.write_text("".join(f"{line}\n" for line in lines), errors="surrogateescape")


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
