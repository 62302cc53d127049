"""The frames of one camera in one run, nearly in order of time, and the sights in them."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from common.frame import Reading
from common.pixels import Bytes
from edge_node.sights import Sight
from edge_node.tracking import view
from edge_node.tracking.assignment import assign
from edge_node.tracking.boxes import patches_at
from edge_node.tracking.frame import TRUST, Camera, Frame
from edge_node.tracking.lines import find_lines, let_go
from edge_node.tracking.motion import Motion
from edge_node.tracking.pairing import ALIKE, MOST, Expected, Flags, Table, compare
from edge_node.tracking.still import by_looks, by_places
from edge_node.tracking.track import GLIMPSE_S, Track

CUT: Final = 0.08  # likeness of two frames below which they show different scenes, unless the text tells otherwise
RELATED: Final = 0.3  # above which two pictures that need not follow each other show one scene
VIEWS: Final = 16  # a frame whose pixels are looked at for a better view, at most, beside those of new sights
SILENCE: Final = 10  # times the time-out that nothing at all may be seen, and the next frame goes on with its sights


Pairs = dict[int, int]  # rows of the table with its columns


class Strand:
    """Sights of frames of one session.

    Args:
        session: whose frames they are.
        name: makes the next sight's id.
        timeout_s: a sight that is unseen for so long has ended.
        ordered: whether frames follow each other; else each may show another scene.
        most: live sights, at most; of regions beyond it in one frame those with the lowest scores have none.
    """

    def __init__(self, session: str, name: Callable[[], str], *, timeout_s: float, ordered: bool, most: int) -> None:
        self.session, self.newest, self.oldest = session, float("-inf"), float("inf")
        self.tracks: list[Track] = []
        self._name, self._timeout_s, self._ordered, self._most = name, timeout_s, ordered, most
        self._camera = Camera()

    def observe(self, reading: Reading, rgb: Bytes, at: float, move_at: float) -> tuple[list[str], list[Sight]]:
        """The sight of each region, and what is new of sights; `at` and `move_at` in seconds of one clock each."""
        late, gone = at < self.newest, list[Track]()
        if not late:
            gone = self._end(lambda track: at - track.last > SILENCE * self._timeout_s)
            if not self._camera.fits(rgb):
                gone += self._begin_anew()
        frame = self._camera.look(reading, rgb, at, move_at)
        known = [t for t in self.tracks if not late or t.first - self._timeout_s <= at <= t.last + self._timeout_s]
        table, pairs = self._pair(known, frame)
        if not late and self._is_other_scene(frame, known, pairs):
            gone += self._begin_anew()
            frame, known = self._camera.look(reading, rgb, at, move_at), []
            table, pairs = self._pair(known, frame)
        parts = {} if late else self._parts(known, frame, table, pairs)
        ids = self._update(frame, known, table, pairs, parts, late)
        gone += self._make_room({id for id in ids if id})
        if not late:
            self.newest = at
            gone += self._end(lambda track: track.missed > 0 and at - track.last > track.patience_s(self._timeout_s))
        self.oldest = min(self.oldest, at)
        self._camera.remember(frame)
        touched = {id for id in ids if id}
        return ids, self._tell([*gone, *(track for track in self.tracks if track.id in touched)])

    def recall(self, reading: Reading, rgb: Bytes, at: float) -> tuple[list[str], list[Sight]]:
        """As `observe`, for a frame from long before: its regions go to sights that were there at that time, where
        the scene has not changed since; the others have no sight."""
        ids = [""] * len(reading.regions)
        known = [track for track in self.tracks if track.first <= at <= track.last and not track.motion.moves]
        if not known or not ids or not self._camera.fits(rgb):
            return ids, []
        frame = self._camera.look(reading, rgb, at, 0.0)
        if frame.alike < RELATED:
            return ids, []
        _, pairs = self._pair(known, frame, still=True)
        for row, column in pairs.items():
            known[row].see(reading, frame.regions[column], at, part=False)
            known[row].read(frame.regions[column])
            ids[column] = known[row].id
        self._look_for_views(frame, [(known[row], column) for row, column in pairs.items()])
        return ids, self._tell([known[row] for row in pairs])

    def close(self) -> list[Sight]:
        """End every sight."""
        return self._tell(self._end(lambda track: True))

    # --- which is which ---

    def _pair(self, known: Sequence[Track], frame: Frame, still: bool = False) -> tuple[Table, Pairs]:
        """Known ones with those seen, lines before parts of lines; corrects where the camera looks, where the text
        shows it better."""
        looks = np.array([track.look for track in known], np.float32).reshape(len(known), frame.looks.shape[1])
        table = compare(self._expected(known, frame, still), frame.seen, looks, frame.looks)
        lines = np.array([not track.is_part for track in known], bool)
        pairs = _assign(table, lines)
        off = by_places(known, table, pairs)
        if off is not None:
            frame.camera = (frame.camera[0] + off[0], frame.camera[1] + off[1])
            table = compare(self._expected(known, frame, still), frame.seen, looks, frame.looks)
            pairs = _assign(table, lines)
        return table, pairs

    def _expected(self, known: Sequence[Track], frame: Frame, still: bool) -> list[Expected]:
        places = [track.place(track.motion.at if still else frame.move_at, frame.camera) for track in known]
        spots = [track.look_at(box, frame.camera) for track, (box, _, _) in zip(known, places, strict=True)]
        frame.there = patches_at(frame.gray, spots, frame.scale)
        shake = by_looks(known, spots, frame)
        if shake is not None:
            frame.camera = (frame.camera[0] + shake[0], frame.camera[1] + shake[1])
            places = [track.place(track.motion.at if still else frame.move_at, frame.camera) for track in known]
            spots = [track.look_at(box, frame.camera) for track, (box, _, _) in zip(known, places, strict=True)]
            frame.there = patches_at(frame.gray, spots, frame.scale)
        expected = []
        for track, place, spot, now in zip(known, places, spots, frame.there, strict=True):
            unseen = abs(frame.at - track.last)
            away = unseen > self._timeout_s or (unseen > GLIMPSE_S and track.missed > 0)
            expected.append(track.expected(*place, spot, now, not still and (away or frame.alike < TRUST)))
        return expected

    def _is_other_scene(self, frame: Frame, known: Sequence[Track], pairs: Pairs) -> bool:
        if not self._ordered:
            return frame.alike < RELATED
        if frame.alike >= CUT or not known or not frame.seen:
            return False
        alike = sum(float(known[row].look @ frame.looks[column]) >= ALIKE for row, column in pairs.items())
        return 2 * alike < min(sum(track.missed == 0 for track in known), len(frame.seen))

    def _parts(self, known: Sequence[Track], frame: Frame, table: Table, pairs: Pairs) -> Pairs:
        """Lines of which only a part is seen, or that are seen with more; takes them out of the pairs. At last what
        is left goes to those that are parts themselves."""
        either, parts = table.inside | table.around, Pairs()
        for row, column in list(pairs.items()):
            if either[row, column]:
                parts[row] = pairs.pop(row)
        free = set(range(len(frame.seen))) - set(pairs.values()) - set(parts.values())
        for row, track in enumerate(known):
            if row not in pairs and row not in parts and not track.is_part and frame.at - track.last < 2 * GLIMPSE_S:
                fitting = [column for column in free if either[row, column]]
                if fitting:
                    parts[row] = max(fitting, key=lambda column: frame.seen[column].box.length)
                    free.discard(parts[row])
        minor = np.array([track.is_part for track in known], bool)
        left = sorted(free)
        rows, costs = np.flatnonzero(minor), table.costs[minor][:, left]
        pairs |= {int(rows[row]): left[column] for row, column in assign(costs, MOST)}
        return parts

    # --- what it changes ---

    def _update(
        self, frame: Frame, known: Sequence[Track], table: Table, pairs: Pairs, parts: Pairs, late: bool
    ) -> list[str]:
        """Into the tracks, and new ones; the id of each region's."""
        regions, ids = frame.regions, [""] * len(frame.seen)
        whole = np.array([not track.is_part for track in known], bool)
        for row, column in (pairs | parts).items():
            track, part = known[row], row in parts
            ids[column] = track.id
            track.see(frame.reading, regions[column], frame.at, part=part)
            if not late:
                place, cut = frame.in_scene(column), frame.cuts(column)
                track.follow(place, frame.looks[column], frame.there[row], frame.move_at, part=part, cut=cut)
            if not part or not track.parts:
                track.read(regions[column])
        self._look_for_views(frame, [(known[row], column) for row, column in pairs.items()])
        for row, track in enumerate(known if not late else ()):
            column = pairs.get(row, parts.get(row, -1))
            track.missed += column < 0
            covered = np.delete(table.around[row], column) if column >= 0 else table.around[row]
            within = (
                table.inside[whole, column].sum() > (whole[row] and table.inside[row, column]) if column >= 0 else 0
            )
            track.stand_apart(column >= 0, bool(covered.any() or within))
        self._remember(frame, {known[row]: column for row, column in (pairs | parts).items()} if not late else {})
        here = np.array([row in pairs or row in parts for row in range(len(known))], bool)
        fresh = [column for column in range(len(ids)) if not ids[column]]
        room = self._most - (len(ids) - len(fresh))
        for column in sorted(fresh, key=lambda column: -regions[column].score)[: max(room, 0)]:
            track = self._new(frame, column)
            track.is_part = bool(table.within[here, column].any() or table.piece[~here, column].any())
            self.tracks.append(track)
            ids[column] = track.id
            self._remember(frame, {track: column})
        track_of = {track.id: track for track in self.tracks}
        new = [(track_of[ids[column]], frame.in_scene(column)) for column in fresh if ids[column]]
        if new:
            seen = [(track_of[id], frame.in_scene(column)) for column, id in enumerate(ids) if id]
            here_now = set(ids)
            others = [track for track in self.tracks if track.id not in here_now]
            unseen = [(track, track.place(frame.move_at, (0.0, 0.0))[0]) for track in others]
            find_lines(new, seen, unseen)
        return ids

    def _remember(self, frame: Frame, seen: dict[Track, int]) -> None:
        """What is where a text was found first: whether it stays there tells whether it moves."""
        for track, column in seen.items():
            if track.there is None:
                track.there = patches_at(frame.gray, [frame.seen[column].box], frame.scale)[0]
                track.spot = frame.in_scene(column)

    def _new(self, frame: Frame, column: int) -> Track:
        reading, region, box = frame.reading, frame.regions[column], frame.in_scene(column)
        promised = view.promise(region, frame.seen[column].box, frame.size)
        track = Track(
            id=self._name(), sure=0 if frame.cuts(column) else 1,
            motion=Motion(box.x, box.y, frame.move_at, box.height), box=box, look=frame.looks[column],
            first=frame.at, last=frame.at, first_unix_ns=reading.captured_unix_ns,
            last_unix_ns=reading.captured_unix_ns, priority=reading.priority, evidence=region.score,
            view=view.view_of(reading, region, promised, frame.rgb, frame.gray),
        )  # fmt: skip
        track.read(region)
        return track

    def _look_for_views(self, frame: Frame, pairs: Sequence[tuple[Track, int]]) -> None:
        promising = []
        for track, column in pairs:
            promised = view.promise(frame.regions[column], frame.seen[column].box, frame.size)
            if promised > 0.95 * track.view.promised:
                promising.append((promised / max(track.view.promised, 1e-9), promised, column, track))
        promising.sort(key=lambda entry: -entry[0])
        for _, promised, column, track in promising[:VIEWS]:
            region = frame.regions[column]
            if view.worth(promised, frame.gray, region.polygon) > track.view.worth:
                track.view = view.view_of(frame.reading, region, promised, frame.rgb, frame.gray)

    def _make_room(self, needed: set[str]) -> list[Track]:
        """End what was unseen for longest, beyond the most there may be."""
        excess = len(self.tracks) - self._most
        if excess <= 0:
            return []
        others = [track for track in self.tracks if track.id not in needed]
        others.sort(key=lambda track: (track.told is not None, track.last))
        leaving = {track.id for track in others[:excess]}
        return self._end(lambda track: track.id in leaving)

    def _begin_anew(self) -> list[Track]:
        self._camera.forget()
        return self._end(lambda track: True)

    def _end(self, which: Callable[[Track], bool]) -> list[Track]:
        gone = [track for track in self.tracks if which(track)]
        for track in gone:
            track.ended = True
        if gone:
            self.tracks = [track for track in self.tracks if not track.ended]
        return gone

    def _tell(self, tracks: Sequence[Track]) -> list[Sight]:
        told = [track.news(self.newest, at_once=not self._ordered) for track in tracks]
        if gone := [track for track in tracks if track.ended]:
            let_go(gone, self.tracks)
        return [sight for sight in told if sight is not None]


def _assign(table: Table, rows: Flags) -> Pairs:
    return {row: column for row, column in assign(np.where(rows[:, None], table.costs, np.inf), MOST)}
