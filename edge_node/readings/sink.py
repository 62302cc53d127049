"""The sink that keeps readings: what is new waits in memory for a second at most, and a thread of its own writes it.

A commit may wait for the disk for a tenth of a second and more, and what is removed for its age comes in between; the
node, which calls sinks one after the other, waits for neither.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from common.errors import ReadingsError
from edge_node.readings.bounds import Bounds
from edge_node.readings.pictures import Crops, remove_crop
from edge_node.readings.recovery import Recovery, set_aside
from edge_node.readings.rows import Row, row_of, sight_of
from edge_node.readings.schema import is_broken
from edge_node.readings.store import NAME
from edge_node.readings.writer import Writer
from edge_node.sights import Sight
from edge_node.sinks.sink import Shown

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0
LASTING_S: Final = 30.0  # between updates of a sight that only goes on: an SD card wears by what is written
BUSY_S: Final = 0.02  # between steps, while there is more to remove
WAITING: Final = 5000  # sights in memory, at most, while the disk cannot be written
CROPS: Final = 200  # of these, with their pictures
AT_ONCE: Final = 500  # rows of a transaction
REMEMBERED: Final = 1000  # pictures of frames that a sight may name as its best
RETRY_S: Final = 10.0


class KeptReadings:
    """Keeps sights, and where nothing is tracked each region that has a text.

    Args:
        folder: of the output: readings.db and sights/ are made in it.
        days: for how long; 0 = for ever.
        mib: how much, the pictures of sights with it.
        min_free_mib: no pictures while the disk has less room; 0 = no bound.
        picture_of: where the picture of a frame is, relative to the folder; None where there are none.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        days: float = 30.0,
        mib: float = 1024.0,
        min_free_mib: float = 0.0,
        picture_of: Callable[[Shown], str] | None = None,
    ) -> None:
        self.folder, self.path = Path(folder), Path(folder) / NAME
        self.lost = 0  # sights that were never written
        self._bounds = Bounds(self.folder, days, mib)
        self._crops, self._picture_of = Crops(self.folder, min_free_mib), picture_of
        self._pictures: OrderedDict[str, str] = OrderedDict()  # frame id: where its picture is
        self._waiting: OrderedDict[str, tuple[Sight, str]] = OrderedDict()
        self._going_on: dict[str, tuple[str, float]] = {}  # sight id: the text that was written, and when
        self._seen: dict[str, int] = {}  # sight id: when its text was last in a frame, unix ns
        self._seen_written_s = -LASTING_S
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._closing = False
        self._writer: Writer | None = None
        self._recovery: Recovery | None = None
        self._trouble = ""
        self._not_before_s = 0.0
        self._thread = threading.Thread(target=self._run, name="kept readings", daemon=True)
        self._open()
        self._thread.start()

    def write(self, shown: Shown) -> None:
        reading = shown.reading
        if self._picture_of is not None and (shown.enhanced is not None or shown.dark is not None):
            self._pictures[str(reading.id)] = self._picture_of(shown)
            while len(self._pictures) > REMEMBERED:
                self._pictures.popitem(last=False)
        with self._lock:
            for region in reading.regions:
                if region.sight:
                    self._seen[region.sight] = max(reading.captured_unix_ns, self._seen.get(region.sight, 0))
            while len(self._seen) > WAITING:  # the disk cannot be written
                del self._seen[next(iter(self._seen))]
        alone = [(n, region) for n, region in enumerate(reading.regions) if region.text and not region.sight]
        if alone:
            height, width = shown.enhanced.shape[:2] if shown.enhanced is not None else (0, 0)
            self.sights([sight_of(reading, region, number, (width, height)) for number, region in alone])

    def sights(self, changed: Sequence[Sight]) -> None:
        with self._lock:
            for sight in changed:
                waits = self._waiting.pop(sight.id, None)
                if waits is not None and sight.crop is None and sight.best == waits[0].best:
                    sight = replace(sight, crop=waits[0].crop)
                self._waiting[sight.id] = (sight, self._pictures.get(str(sight.best), ""))
            while len(self._waiting) > WAITING:
                self._waiting.popitem(last=False)
                self.lost += 1
            if len(self._waiting) > CROPS:
                self._leave_out_crops()

    def close(self) -> None:
        """Write what waits; may be called again."""
        if not self._closing:
            self._closing = True
            self._wake.set()
            self._thread.join()
            if self.lost:
                log.warning("%d readings could not be kept in %s", self.lost, self.path)

    def _leave_out_crops(self) -> None:
        """But of the newest: pictures are what takes memory."""
        for id in list(self._waiting)[:-CROPS]:
            sight, picture = self._waiting[id]
            if sight.crop is not None:
                self._waiting[id] = (replace(sight, crop=None), picture)

    # --- the thread ---

    def _run(self) -> None:
        busy = False
        while not self._closing:
            self._wake.wait(BUSY_S if busy else EVERY_S)
            busy = self._step(time.monotonic())
        self._not_before_s = 0.0
        self._step(time.monotonic(), everything=True)
        with self._lock:
            self.lost += len(self._waiting)
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()

    def _step(self, now_s: float, everything: bool = False) -> bool:
        """Write what is due and remove a little of what is too much; whether there is more to do soon."""
        if now_s < self._not_before_s:
            return False
        due = self._due(now_s, everything)
        try:
            if self._writer is not None and not self._writer.is_there:
                log.warning("%s is gone: a new one is begun", self.path)
                self._writer.close()
                self._writer = None
            if self._writer is None and not self._open():
                raise sqlite3.OperationalError(self._trouble)
            assert self._writer is not None
            while due:
                rows = [self._row(sight, picture) for sight, picture in due[:AT_ONCE]]
                for name in self._writer.put(rows):
                    remove_crop(self.folder, name)
                self._written(due[:AT_ONCE], rows, now_s)
                del due[:AT_ONCE]
            if everything or now_s - self._seen_written_s >= LASTING_S:
                self._write_seen(self._writer, now_s)
            busy = not everything and self._upkeep(self._writer)
            if self._trouble:
                log.warning("%s is written again", self.path)
                self._trouble = ""
            return busy
        except ReadingsError:
            self._wait_longer(due)
        except (sqlite3.Error, OSError) as error:
            self._wait_longer(due)
            self._failed(error)
        except Exception:
            self._wait_longer(due[:0])
            self.lost += len(due)
            log.exception("%d readings could not be kept in %s", len(due), self.path)
        return False

    def _upkeep(self, writer: Writer) -> bool:
        if self._recovery is not None:
            if self._recovery.step(writer):
                return True
            self._recovery = None
        return self._bounds.step(writer)

    def _due(self, now_s: float, everything: bool) -> list[tuple[Sight, str]]:
        """Take out what is new, ended or says something else, and what only went on for long enough."""
        with self._lock:
            due = []
            for id, (sight, picture) in list(self._waiting.items()):
                text, written_s = self._going_on.get(id, ("", -LASTING_S))
                if everything or sight.ended or text != sight.text or now_s - written_s >= LASTING_S:
                    due.append((sight, picture))
                    del self._waiting[id]
            return due

    def _written(self, done: Sequence[tuple[Sight, str]], rows: Sequence[Row], now_s: float) -> None:
        for (sight, _), row in zip(done, rows, strict=True):
            self._crops.written(sight, row["crop"])
            if sight.ended:
                self._going_on.pop(sight.id, None)
            else:
                self._going_on[sight.id] = (sight.text, now_s)

    def _write_seen(self, writer: Writer, now_s: float) -> None:
        """When sights were last seen, of which nothing else is new: the tracker tells that more and more seldom."""
        with self._lock:
            seen = dict(self._seen)
        if seen:
            writer.seen(seen)
        with self._lock:
            self._seen = {id: ns for id, ns in self._seen.items() if seen.get(id) != ns}
        self._seen_written_s = now_s

    def _wait_longer(self, due: Sequence[tuple[Sight, str]]) -> None:
        """Put back what could not be written, before what has come since, which is newer."""
        with self._lock:
            since = self._waiting
            self._waiting = OrderedDict((sight.id, (sight, picture)) for sight, picture in due)
            self._waiting.update(since)

    def _row(self, sight: Sight, picture: str) -> Row:
        row = row_of(sight, picture)
        row["crop"], row["crop_bytes"] = self._crops.keep(sight)
        return row

    # --- trouble ---

    def _open(self) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._begin(Writer(self.path))
        except ReadingsError as error:
            self._give_up(str(error))
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        return self._writer is not None

    def _begin(self, writer: Writer) -> None:
        self._writer = writer
        self._crops.forget()
        self._recovery = Recovery(self.path)
        self._bounds.opened(writer)

    def _give_up(self, why: str) -> None:
        """Leave the database alone; what comes is counted, and the database is looked at again now and then."""
        if why != self._trouble:
            log.error("readings are not kept: %s", why)
        self._trouble, self._not_before_s = why, time.monotonic() + RETRY_S

    def _failed(self, error: Exception) -> None:
        if isinstance(error, sqlite3.Error) and is_broken(error):
            self._begin_anew(error)
            return
        if not self._trouble:
            log.error("cannot keep readings in %s: %s; the node goes on, and tries again", self.path, error)
        self._trouble, self._not_before_s = str(error), time.monotonic() + RETRY_S

    def _begin_anew(self, error: sqlite3.Error) -> None:
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None
        try:
            set_aside(self.path, str(error))
            self._begin(Writer(self.path))
        except (sqlite3.Error, OSError, ReadingsError) as again:
            self._give_up(str(again))
