"""The node's own copies of the weights that it took."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from common.errors import WeightsError


class ServedWeights:
    """An engine that is built again finds the weights that were served, whatever became of the user's files.

    `files` holds what an engine is to be built from, by preset; None for the weights that come along.
    """

    def __init__(self, files: Mapping[str, Path | None]) -> None:
        self.files: dict[str, Path | None] = dict(files)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = count(1)

    def keep(self) -> None:
        """Copy all files. Raises WeightsError."""
        for preset, file in list(self.files.items()):
            if file is not None:
                with self.trying(preset, file):
                    pass

    @contextmanager
    def trying(self, preset: str, file: Path) -> Iterator[Path]:
        """A copy of a file, which replaces the preset's weights unless the body raises. Raises WeightsError."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lamplight-weights-", ignore_cleanup_errors=True)
        copy = Path(self._folder.name) / f"{preset}-{next(self._numbers)}.safetensors"
        try:
            shutil.copyfile(file, copy)
            yield copy
        except BaseException as error:
            copy.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise WeightsError(f"weights of preset {preset!r}: {file} cannot be copied: {error}") from None
            if isinstance(error, WeightsError):
                raise WeightsError(str(error).replace(str(copy), str(file))) from None
            raise
        old, self.files[preset] = self.files[preset], copy
        if old is not None and old.parent == copy.parent:
            old.unlink(missing_ok=True)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
