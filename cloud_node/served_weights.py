"""The node's own copies of the weights that it took."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from common.errors import WeightsError


class ServedWeights:
    """An engine that is built again finds the weights that were served, whatever became of the user's files."""

    def __init__(self, files: Mapping[str, Path | None]) -> None:
        self._given, self._copies = dict(files), dict[str, Path]()
        self._former = dict[str, Path]()  # which an engine that is being built may be about to read
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = count(1)

    @property
    def files(self) -> dict[str, Path | None]:
        """What an engine is to be built from, by preset; None for the weights that come along."""
        kept = {preset: copy for preset, copy in self._copies.items() if copy.exists()}  # a cleaner may have been there
        return {**self._given, **kept}

    async def keep(self) -> None:
        """Copy all files. Raises WeightsError."""
        for preset, file in self._given.items():
            if file is not None:
                async with self.trying(preset, file):
                    pass

    @asynccontextmanager
    async def trying(self, preset: str, file: Path) -> AsyncIterator[Path]:
        """A copy of a file, which replaces the preset's weights unless the body raises. Raises WeightsError."""
        copy = self._new_copy(preset)
        try:
            await asyncio.to_thread(shutil.copyfile, file, copy)
            yield copy
        except BaseException as error:
            copy.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise WeightsError(f"weights of preset {preset!r}: {file} cannot be copied: {error}") from None
            if isinstance(error, WeightsError):
                raise WeightsError(str(error).replace(str(copy), str(file))) from None
            raise
        if preset in self._former:
            self._former.pop(preset).unlink(missing_ok=True)
        if preset in self._copies:
            self._former[preset] = self._copies[preset]
        self._copies[preset] = copy

    def _new_copy(self, preset: str) -> Path:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="lamplight-weights-", ignore_cleanup_errors=True)
        except OSError as error:
            raise WeightsError(f"weights of preset {preset!r} cannot be copied: {error}: set TMPDIR") from None
        return Path(self._folder.name) / f"{preset}-{next(self._numbers)}.safetensors"

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
