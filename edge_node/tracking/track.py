"""One piece of text that is followed, and what is told of it."""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from common.frame import Priority, Reading, Region
from edge_node.sights import Sight
from edge_node.tracking.boxes import Box, Vectors
from edge_node.tracking.motion import Motion
from edge_node.tracking.pairing import Expected, part_distance
from edge_node.tracking.texts import Vote
from edge_node.tracking.view import View

EVIDENCE: Final = 1.5  # sum of detector scores that makes a sight: two frames or three
EVIDENCE_IN_LINE: Final = 3.0  # of one right beside another on its line: until then the whole line shows
SPLINTER: Final = 2  # frames of a splinter, at most
SPLINTER_TEXT: Final = 0.6  # letters that differ from its line's: splinters are read badly
OFF_SPOT: Final = 0.5  # heights
OTHER_LENGTH: Final = 0.25  # logarithm of the ratio
SCORE_ALONE: Final = 0.75  # mean of a sight that ended before there was as much
PARTS: Final = 8  # frames in a row in which a line was found with more: it has grown
APART: Final = 10  # frames in a row after which what was within another's line is a line of its own
APART_ALONE: Final = 3  # or of what has ended
FEWER: Final = 30  # frames in a row in which only a part was found: the line has changed
SURE: Final = 4  # frames that tell how long a line is
SPREAD: Final = 0.04  # of likenesses, as long as nothing is known of it
STEADY: Final = 0.6  # likeness from frame to frame
GLIMPSE_S: Final = 1.0  # unseen for longer, the place alone does not tell any more
TELL_AGAIN_S: Final = 5.0  # between sights that only say that it is still there; a tenth of its age if that is more
TELL_CHANGE_S: Final = 1.0  # between sights with another text or a better view
BETTER: Final = 1.3  # times the worth of the view that was told
OTHER_CONFIDENCE: Final = 0.15
BLEND: Final = 0.3  # of what is new, in size and look
JUMP_NS: Final = 2 * 10**9  # of the wall clock against the other


@dataclass(slots=True, eq=False)
class Track:
    """Times are in seconds of a clock that does not jump, `..._unix_ns` those of the wall's."""

    id: str
    motion: Motion
    box: Box  # its place is that of `motion`
    look: Vectors
    first: float
    last: float
    first_unix_ns: int
    last_unix_ns: int
    view: View
    priority: Priority
    evidence: float
    vote: Vote = field(default_factory=Vote)
    there: Vectors | None = None  # what is exactly at its `spot`, over the frames
    spot: Box | None = None  # in the scene, of a text that stands still; of others it is where they are expected
    usual: float = 0.0  # likeness of one frame to that
    spread: float = SPREAD  # mean difference of likenesses to that
    frames: int = 1
    missed: int = 0  # frames in a row
    parts: int = 0  # frames in a row
    is_part: bool = False  # of another one's line
    apart: int = 0  # frames in a row in which it was not
    sure: int = 1  # frames in which it was as long as it is
    ended: bool = False
    beside: "Track | None" = None  # one that it may be a splinter of, by its place where it was found first
    in_line: bool = False  # right beside another on its line: the two may be one that was found in two pieces
    told: Sight | None = None
    _told_at: float = 0.0
    _told_worth: float = 0.0

    def place(self, move_at: float, camera: tuple[float, float]) -> tuple[Box, float, float]:
        """Where it should be at that time of its motion, and how far off that may be, as `Motion.expect` says;
        `camera` is where the scene's origin is in the frame."""
        x, y, off, far = self.motion.expect(move_at)
        return Box(x + camera[0], y + camera[1], self.box.along, self.box.length, self.box.height), off, far

    def look_at(self, place: Box, camera: tuple[float, float]) -> Box:
        """Where in the frame to look whether it is still there; `place` is where it is expected.

        Of what stands still always the same spot, whatever the detector says of its box: so that its likeness to
        before falls when something else is there, and only then.
        """
        spot = self.spot
        if spot is None or self.motion.moves:
            return place
        return Box(spot.x + camera[0], spot.y + camera[1], spot.along, spot.length, spot.height)

    @property
    def steady(self) -> bool:
        """Whether it stands still, was just seen, and is known well by its look."""
        return self.sure >= SURE and not self.missed and not self.motion.moves and self.usual > STEADY

    def expected(self, box: Box, off: float, far: float, spot: Box, now: Vectors, strict: bool) -> Expected:
        """spot: of `look_at`. now: what is there in the frame."""
        text, confidence = self.vote.result()
        before = now if self.there is None else self.there
        return Expected(
            box,
            off,
            far,
            spot,
            before,
            now,
            0.0 if self.there is None else float(before @ now),
            self.usual if self.sure >= SURE and not self.motion.moves else 0.0,
            self.spread,
            text,
            confidence,
            self.sure > 0,
            strict,
        )

    def see(self, reading: Reading, region: Region, at: float, *, part: bool) -> None:
        """It is in this frame, or a `part` of it."""
        self.frames += 1
        self.evidence += 0.0 if part and self.told is None else region.score
        self.priority = min(self.priority, reading.priority)
        if at >= self.last:
            self.missed, self.last, self.last_unix_ns = 0, at, reading.captured_unix_ns
            passed_ns = round((at - self.first) * 1e9)
            if abs(self.last_unix_ns - self.first_unix_ns - passed_ns) > JUMP_NS:  # the newest time is the best
                self.first_unix_ns = self.last_unix_ns - passed_ns
        elif at < self.first:
            self.first, self.first_unix_ns = at, self.last_unix_ns - round((self.last - at) * 1e9)

    def follow(self, box: Box, look: Vectors, now: Vectors, move_at: float, *, part: bool, cut: bool) -> None:
        """Take its place in the newest frame, in the scene; a `part` of its line (or more than it) only counts when
        nothing else is seen of it for long.

        look: of the region. now: what is at its spot. cut: the frame's border cuts it.
        """
        self.parts = self.parts + 1 if part else 0
        if part and self.parts >= (FEWER if box.length < self.box.length else PARTS if self.sure >= SURE else 0):
            self.parts, self.look, self.sure = 0, look, 0
            self.look_anew()
            self.motion, self.box, self.vote = Motion(box.x, box.y, move_at, box.height), box, Vote()
        if cut and self.sure < SURE:  # nobody knows yet how long it is, so its middle says nothing of its speed
            self.motion, self.box, self.look = Motion(box.x, box.y, move_at, box.height), box, look
            self.vote = self.vote if self.sure else Vote()
            self.look_anew()
        if part or cut:
            return
        if not self.sure:
            self.vote = Vote()
        self.sure += 1
        much = 0.06 + 0.25 * self.box.height / self.box.length
        if self.sure > SURE and abs(box.length / self.box.length - 1) > much:
            return  # something hides an end of it, or it reaches out of the frame: where its middle is, is not known
        self.motion.see(box.x, box.y, move_at)
        length = self.box.length + BLEND * (box.length - self.box.length)
        self.motion.height = self.box.height + BLEND * (box.height - self.box.height)
        self.box = Box(box.x, box.y, box.along, length, self.motion.height)
        self.look = _blended(self.look, look)
        if self.motion.moves:
            self.spot = None
        elif self.spot is None or not self._fits(self.spot):
            return self.look_anew()
        if self.there is not None:
            likeness = float(self.there @ now)
            if self.usual:
                self.spread += BLEND * (abs(likeness - self.usual) - self.spread)
            self.usual += (likeness - self.usual) * (BLEND if self.usual else 1)
            self.there = _blended(self.there, now)

    def look_anew(self) -> None:
        """What is at its place is to be learnt again, from this frame on."""
        self.there, self.spot, self.usual, self.spread = None, None, 0.0, SPREAD

    def _fits(self, spot: Box) -> bool:
        """Whether the spot is still what its box covers."""
        off = math.hypot(spot.x - self.motion.rest_x, spot.y - self.motion.rest_y)
        return off < OFF_SPOT * self.box.height and abs(math.log(spot.length / self.box.length)) < OTHER_LENGTH

    def stand_apart(self, seen: bool, within: bool) -> None:
        """Whether it lies within another one's line in this frame; it takes a while to be one of its own again."""
        if self.told is not None:
            return
        if within:
            self.is_part, self.apart = True, 0
        elif seen:
            self.apart += 1
            self.is_part = self.is_part and self.apart < APART

    def read(self, region: Region) -> None:
        """What it says in one frame."""
        self.vote.add(region.text, region.confidence)

    def sight(self) -> Sight:
        """What is known of it."""
        text, confidence = self.vote.result()
        view = self.view
        return Sight(
            id=self.id, edge=view.frame.edge, name=view.name, text=text, confidence=confidence, score=view.score,
            first_unix_ns=self.first_unix_ns, last_unix_ns=self.last_unix_ns, frames=self.frames, best=view.frame,
            polygon=view.polygon, size=view.size, priority=self.priority, path=view.path, ended=self.ended,
            crop=view.crop,
        )  # fmt: skip

    @property
    def established(self) -> bool:
        """Whether it is there for sure: not a flicker of the detector, and no part of another line."""
        least = EVIDENCE_IN_LINE if self.in_line else EVIDENCE
        return self.told is not None or (self.evidence >= least and not self.is_part)

    @property
    def is_splinter(self) -> bool:
        """Whether it was seen in a frame or two, beside one that was seen again without it, and does not say something
        else: what was not read, or has less than three letters, cannot."""
        other = self.beside
        if other is not None and other.last <= self.last and other.beside not in (None, self):
            other = other.beside
        if other is None or self.frames > SPLINTER or other.last <= self.last:
            return False
        one, two = self.vote.text, other.vote.text
        return min(len(one), len(two)) < 3 or part_distance(one, two) <= SPLINTER_TEXT

    def patience_s(self, timeout_s: float) -> float:
        """How long it may be unseen; what was only a part of a line is not waited for."""
        return min(GLIMPSE_S, timeout_s) if self.is_part and self.told is None else timeout_s

    def news(self, at: float, *, at_once: bool) -> Sight | None:
        """What is to be told of it now, if anything."""
        told = self.told
        if told is None:
            least = min(SCORE_ALONE * self.frames, EVIDENCE)
            alone = self.ended and self.evidence >= least and not self.is_splinter
            if not (self.established or ((alone or at_once) and (not self.is_part or self.apart >= APART_ALONE))):
                return None
        elif not (self.ended or self._changed(told, at)):
            return None
        self.told, self._told_at, self._told_worth = self.sight(), at, self.view.worth
        return self.told

    def _changed(self, told: Sight, at: float) -> bool:
        if self.priority < told.priority:
            return True
        passed = at - self._told_at
        text, confidence = self.vote.result()
        other = text != told.text or abs(confidence - told.confidence) >= OTHER_CONFIDENCE
        better = self.view.frame != told.best and self.view.worth >= BETTER * self._told_worth
        if (other or better) and passed >= TELL_CHANGE_S:
            return True
        return self.frames > told.frames and passed >= max(TELL_AGAIN_S, 0.1 * (self.last - self.first))


def _blended(before: Vectors, now: Vectors) -> Vectors:
    if not now.any():
        return before
    mixed = before + BLEND * (now - before)
    return np.asarray(mixed / max(float(np.linalg.norm(mixed)), 1e-6), np.float32)
