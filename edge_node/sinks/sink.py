"""What every sink is, and what they share: what to do when writing fails."""

import errno
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from common.errors import RESTART_EXIT, SettingsError
from common.frame import Reading
from common.pixels import Bytes, RawImage

logger = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Shown:
    """A reading with the pictures it came from."""

    reading: Reading
    enhanced: Bytes | None  # (H, W, 3) uint8 RGB; None where the frame was not enhanced
    dark: RawImage | None  # as the camera gave it
    spooled: bool = False  # it waited in the spool: what it shows may be hours old


class Sink(Protocol):
    """A place where readings go. `write` and `close` are called from one thread at a time."""

    def write(self, shown: Shown) -> None:
        """Take one settled frame. Failing to write is logged and counted, never raised."""
        ...

    def close(self) -> None:
        """Finish what was written; may be called again."""
        ...


@runtime_checkable
class AlertSink(Protocol):
    """A sink that shows alerts."""

    def alerted(self, told: Mapping[str, Any]) -> None:
        """Show an alert, as the object that docs/alerts.md describes; must not fail or wait."""
        ...


def check_writable(folder: Path) -> None:
    """Make the folder and write a little there.

    Raises:
        SettingsError: it cannot be made or written to, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        advice = "free space, change its permissions or choose another folder"
        refused = SettingsError(f"cannot write in {folder}: {error.strerror or error}; {advice}")
        if error.errno in FULL:
            refused.exit_code = RESTART_EXIT  # not that of a setting, after which services stay ended
        raise refused from None


class Failures:
    """Counts writes that failed; logs the first of a row and how many there were."""

    def __init__(
        self,
        what: str,
        unit: str = "frames",
        also: tuple[type[Exception], ...] = (),
        *,
        failed: str = "cannot write {what}: {why}; the node goes on without",
        again: str = "{what} is written again; {count} {unit} are missing there",
    ) -> None:
        """also: what writing raises beside OSError."""
        self.count = 0
        self._errors: tuple[type[Exception], ...] = (OSError, *also)
        self._what, self._unit, self._in_a_row = what, unit, 0
        self._failed, self._again = failed, again

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Swallow such an error from the body; every later write is tried again."""
        try:
            yield
        except self._errors as error:
            self.count += 1
            self._in_a_row += 1
            if self._in_a_row == 1:
                why = getattr(error, "strerror", None) or error
                if getattr(error, "errno", 0) in FULL:
                    why = f"the disk is full ({why}): free space there"
                logger.error("%s", self._failed.format(what=self._what, why=why))
        else:
            if self._in_a_row:
                told = self._again.format(what=self._what, count=self._in_a_row, unit=self._unit)
                logger.warning("%s", told)
            self._in_a_row = 0
