"""Pictures only while the disk has room: readings must not stop because pictures filled it."""

import logging
from pathlib import Path
from typing import Final

from edge_node import machine
from edge_node.sinks.sink import Shown, Sink

logger = logging.getLogger(__name__)

RESUME: Final = 1.25  # times the bound must be free before pictures are written again


class WhileRoom:
    """Passes what is shown on to a sink of pictures while so much of its disk is free.

    Args:
        folder: any folder of that disk.
        min_free_mib: below it nothing is passed on; above 1.25 times as much it is again.
    """

    def __init__(self, sink: Sink, folder: Path, min_free_mib: float) -> None:
        self.left_out = 0  # pictures, in all
        self._sink, self._folder, self._min_free_mib = sink, folder, min_free_mib
        self._open, self._missed = True, 0

    def write(self, shown: Shown) -> None:
        if self._has_room():
            self._sink.write(shown)
        else:
            self.left_out += 1
            self._missed += 1

    def close(self) -> None:
        self._sink.close()

    def _has_room(self) -> bool:
        try:
            free = machine.free_mib(self._folder)
        except OSError:  # the sink says what is wrong there
            return True
        least = self._min_free_mib
        if self._open and free < least:
            self._open = False
            logger.warning(
                "%s: %.0f MiB are free, less than --min-free-mib %g: no more pictures, readings go on",
                self._folder, free, least,
            )  # fmt: skip
        elif not self._open and free >= least * RESUME:
            self._open = True
            logger.warning("%s has room again: pictures go on, %d are missing", self._folder, self._missed)
            self._missed = 0
        return self._open
