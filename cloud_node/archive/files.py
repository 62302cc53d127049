"""The files of an archive: what is to be done, and results that are there whole or not at all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import SettingsError, SourceError
from common.packing import IMAGE_SUFFIXES

PRIVATE = ".lamplight-archive"  # in the target folder: files that are not whole yet, the lock, the list of broken ones


@dataclass(frozen=True, slots=True)
class Archive:
    """Images under `source`, and the enhanced ones under `target`, in the same tree.

    Args:
        suffix: of the enhanced files, as ".webp"; "" keeps each image's own.
    """

    source: Path
    target: Path
    suffix: str = ""

    def __post_init__(self) -> None:
        if not self.source.is_dir():
            raise SourceError(f"{self.source} is no folder: name the one that holds the images")
        if self.target.resolve() == self.source.resolve():
            raise SourceError(f"{self.target} is the source itself: name another folder, nothing is written over")

    @property
    def private(self) -> Path:
        return self.target / PRIVATE

    def images(self) -> Iterator[str]:
        """Paths of all images, relative to the source; folder by folder in the order of names, memory stays flat."""
        yield from self._images("", str(self.target.resolve()))

    def _images(self, folder: str, skipped: str) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(self.source / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise SourceError(f"cannot look into {self.source / folder}: {error.strerror or error}") from None
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if os.path.realpath(entry.path) != skipped:
                    yield from self._images(path, skipped)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
                yield path

    def target_of(self, image: str) -> Path:
        """Where the enhanced image goes. With one suffix for all, two images may differ in theirs: it is added then."""
        if not self.suffix or image.lower().endswith(self.suffix):
            return self.target / image
        return self.target / (image + self.suffix)

    def is_done(self, image: str) -> bool:
        return self.target_of(image).exists()

    def write(self, image: str, data: bytes) -> None:
        """Write a file, which then takes its place in one step, to stay.

        Raises:
            SourceError: it cannot be written, or the disk is full.
        """
        target = self.target_of(image)
        try:
            number, name = tempfile.mkstemp(target.suffix, dir=self.private)
            part = Path(name)
            try:
                with open(number, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(number)
                part.chmod(0o644)
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise SourceError(f"cannot write {target}: {error.strerror or error}") from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one job at a time writes to a target; what an earlier one left unfinished goes.

        Raises:
            SettingsError: another job is at work, or the folder cannot be written.
        """
        with self._locked():
            for left in self.private.glob("tmp*"):
                left.unlink(missing_ok=True)
            yield

    def _locked(self) -> IO[str]:
        file = self.private / "lock"
        for _ in range(100):
            try:
                self.private.mkdir(parents=True, exist_ok=True)
                lock = file.open("w")
            except FileNotFoundError:  # a job that ended took the folder away meanwhile
                continue
            except OSError as error:
                raise SettingsError(f"cannot write in {self.target}: {error.strerror or error}") from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                raise SettingsError(f"another job writes to {self.target}: wait for it, or stop it") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
                    return lock
            lock.close()  # of a file that is gone: others would lock the next one
        raise SettingsError(f"cannot keep a lock in {self.private}: does something take it away?")

    def clear(self) -> None:
        """Nothing is broken: the private folder has nothing left to say. To be called `alone`."""
        shutil.rmtree(self.private, ignore_errors=True)
