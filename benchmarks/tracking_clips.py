"""Clips of signs with known truth, for benchmarks/tracking.py: text rendered into real photographs, the motion of the
camera and of the signs, and a detector that misses, trembles, splits lines and sees things."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.frame import FrameId, Outcome, Priority, Reading, Region

WIDTH, HEIGHT, FPS = 640, 360, 10
WORLD = 1.9  # times the frame's sides: where the camera may look
KINDS = ("still", "pan", "shake", "traffic", "parking", "page")
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
WORDS = (
    "EXIT OPEN PARKING TAXI NO ENTRY HOTEL CAFE BANK STATION GATE BUS STOP PHARMACY MUSEUM TOTAL CASH CHANGE".split()
)


@dataclass(frozen=True)
class Detector:
    """How a simulated detector fails; shares, and standard deviations in heights of the text."""

    misses: float = 0.06  # of signs that it found in the frame before
    misses_again: float = 0.7  # of those that it missed there
    pieces: float = 0.07  # of lines
    ends: float = 0.12
    edges: float = 0.07
    phantoms: float = 0.25  # a frame


HARSH = Detector()
AS_DBNET = Detector(misses=0.0, misses_again=0.0, pieces=0.0, ends=0.03, edges=0.03, phantoms=0.7)  # on these clips


@dataclass
class Sign:
    """What is really there; its picture is `art`, its centre at second t `place(t)` in the world."""

    number: int
    text: str
    art: np.ndarray
    start: tuple[float, float]
    speed: tuple[float, float] = (0.0, 0.0)
    born: float = 0.0
    dies: float = 1e9
    dark: tuple[float, float] = (0.0, 0.0)  # seconds in which nobody finds it
    missing: bool = field(default=False, init=False)

    def place(self, t: float) -> tuple[float, float]:
        return self.start[0] + self.speed[0] * (t - self.born), self.start[1] + self.speed[1] * (t - self.born)


@dataclass
class Step:
    """One frame: the picture, what a detector says of it, and which sign each region is (-1: none)."""

    t: float
    rgb: np.ndarray
    regions: tuple[Region, ...]
    truth: tuple[int, ...]
    places: tuple[tuple[int, tuple[float, ...]], ...] = ()  # of the signs that can be seen: left, top, right, bottom


def reading_of(step: Step, number: int, session: str = "s") -> Reading:
    ns = 1_800_000_000_000_000_000 + round(step.t * 1e9)
    return Reading(
        FrameId("bench", session, number),
        f"clip#{number}",
        ns,
        Priority.STANDARD,
        Outcome.ENHANCED,
        regions=step.regions,
    )


def uncovered(box: list, cover: tuple[float, ...]) -> list:
    """The longer end of a line that a sign in front of it does not cover; all of it where it covers little of its
    height."""
    left, top, right, bottom = box
    over = min(bottom, cover[3]) - max(top, cover[1])
    if over < 0.3 * (bottom - top) or cover[2] <= left or right <= cover[0]:
        return box
    before, after = cover[0] - left, right - cover[2]
    return [left, top, max(cover[0], left), bottom] if before > after else [min(cover[2], right), top, right, bottom]


def photographs(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SystemExit(f"no photographs in {folder}: name a folder with bright ones")
    return found


class Clip:
    """One clip; the same kind and seed give the same one. A sign that another one is painted over is found, if at
    all, where it can be seen.

    noise: standard deviation in levels, as the enhancement leaves it. Clips of odd seeds have texts.
    """

    def __init__(
        self,
        kind: str,
        seed: int,
        photos: list[Path],
        *,
        seconds: float = 8.0,
        noise: float = 10.0,
        detector: Detector = HARSH,
    ) -> None:
        self.kind, self.seconds, self.noise, self.detector = kind, seconds, noise, detector
        self.seed = seed
        self.rng = np.random.default_rng([KINDS.index(kind), seed])
        self.read = bool(seed % 2)
        photo = np.asarray(Image.open(photos[int(self.rng.integers(len(photos)))]).convert("RGB"))
        self.size = round(WIDTH * WORLD), round(HEIGHT * WORLD)
        scale = max(self.size[0] / photo.shape[1], self.size[1] / photo.shape[0])
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self.world = np.ascontiguousarray(photo[: self.size[1], : self.size[0]])
        self.signs: list[Sign] = []
        getattr(self, f"_{'page' if kind == 'page' else 'traffic' if kind == 'traffic' else 'street'}")()
        if kind == "parking":
            self._replace_some()
        self.occluder = self._occluder() if kind in ("still", "shake", "traffic") else None
        self.phase = self.rng.uniform(0, 2 * math.pi, 4)
        self.pan = self.rng.uniform(40, 160) * self.rng.choice([-1, 1]), self.rng.uniform(-25, 25)

    # --- what is there ---

    def _street(self) -> None:
        for number in range(int(self.rng.integers(4, 12))):
            self._add(number, *self._free_place())
        for sign in self.signs:
            if self.rng.random() < 0.2:  # the light does not reach it for a while
                start = self.rng.uniform(1, self.seconds - 3)
                sign.dark = (start, start + self.rng.uniform(0.5, 2.5))

    def _traffic(self) -> None:
        self._street()
        self.signs = self.signs[:3]
        for number in range(3, 3 + int(self.rng.integers(2, 6))):
            lane = HEIGHT * WORLD / 2 + (number - 4) * 44
            right = self.rng.random() < 0.5
            x = self.size[0] / 2 + (-1 if right else 1) * self.rng.uniform(0.2, 1.0) * WIDTH
            speed = (1 if right else -1) * self.rng.uniform(30, 260)
            self._add(number, x, lane, speed=(speed, self.rng.uniform(-4, 4)), height=self.rng.uniform(14, 24))

    def _page(self) -> None:
        top, left = self.size[1] * 0.27, self.size[0] * 0.28
        paper = self.world[int(top) - 10 : int(top + 340), int(left) - 12 : int(left) + 520]
        paper[:] = 235
        pitch = self.rng.uniform(13, 18)
        for row in range(int(320 / pitch)):
            for column in range(2):
                words = " ".join(self.rng.choice(WORDS, int(self.rng.integers(1, 4 - 2 * column))))
                words = words if column == 0 else f"{self.rng.integers(1, 999)}.{self.rng.integers(10, 99)}"
                self._add(len(self.signs), 0, 0, text=words, height=pitch * 0.7, plate=(235, 235, 235))
                width = self.signs[-1].art.shape[1]
                x = left + width / 2 if column == 0 else left + 480 - width / 2
                self.signs[-1].start = (x, top + row * pitch + pitch / 2)

    def _replace_some(self) -> None:
        """Another sign where one was: a car that parks in the place of another, a display."""
        for sign in list(self.signs):
            if self.rng.random() < 0.6:
                sign.dies = self.rng.uniform(2.0, self.seconds - 3.5)
                gap = float(self.rng.choice([0.0, 0.5, 2.0]))
                height = sign.art.shape[0] * self.rng.uniform(0.93, 1.07)
                shift = self.rng.normal(0, 0.25 * height, 2)
                self._add(len(self.signs), sign.start[0] + shift[0], sign.start[1] + shift[1], height=height)
                self.signs[-1].born = sign.dies + gap

    def _add(self, number, x, y, *, text="", height=0.0, speed=(0.0, 0.0), plate=None) -> None:
        rng = self.rng
        if not text:
            plates = "{}{} {}{}{} {}{}{}".format(*rng.choice(list(LETTERS), 8))
            text = plates if speed[0] or rng.random() < 0.6 else " ".join(rng.choice(WORDS, int(rng.integers(1, 4))))
        height = height or rng.uniform(12, 30)
        plate = plate or tuple(
            int(v) for v in (rng.uniform(190, 250, 3) if rng.random() < 0.7 else rng.uniform(10, 90, 3))
        )
        ink = (20, 20, 20) if sum(plate) > 380 else (240, 240, 240)
        font = ImageFont.load_default(max(8, round(height * 0.82)))
        wide = math.ceil(font.getlength(text) + 0.3 * height)
        art = Image.new("RGB", (wide, math.ceil(height)), plate)
        ImageDraw.Draw(art).text((wide / 2, height / 2), text, fill=ink, font=font, anchor="mm")
        self.signs.append(Sign(number, text, np.asarray(art), (float(x), float(y)), speed))

    def _free_place(self) -> tuple[float, float]:
        for _ in range(100):
            x = (
                self.rng.uniform(0.3, 0.7) * self.size[0]
                if self.kind != "pan"
                else self.rng.uniform(0.1, 0.9) * self.size[0]
            )
            y = self.rng.uniform(0.3, 0.7) * self.size[1]
            if all(abs(y - s.start[1]) > 38 or abs(x - s.start[0]) > 290 for s in self.signs):
                break
        return x, y

    def _occluder(self) -> tuple[np.ndarray, float, float]:
        """A car between the camera and the scene: its picture, where it is at 0 s, and its speed."""
        part = self.world[: int(HEIGHT * 0.6), : int(self.rng.uniform(80, 240))][:, ::-1].copy()
        return part, self.rng.uniform(-600, -100), self.rng.uniform(60, 200)

    # --- what is seen ---

    def look(self, t: float) -> tuple[float, float]:
        """The world's point in the frame's top left corner."""
        x, y = (self.size[0] - WIDTH) / 2, (self.size[1] - HEIGHT) / 2
        if self.kind in ("pan", "page"):
            there = (self.pan[0] if self.kind == "pan" else self.pan[0] / 3) * self.seconds / 4
            x += there * math.sin(2 * math.pi * t / self.seconds + self.phase[0])
            y += self.pan[1] * math.sin(2 * math.pi * t / self.seconds)
        if self.kind in ("shake", "traffic"):
            much = 14 if self.kind == "shake" else 3
            x += much * math.sin(9 * t + self.phase[1]) + much / 2 * math.sin(23 * t + self.phase[2])
            y += much * math.sin(11 * t + self.phase[3])
        return min(max(x, 0), self.size[0] - WIDTH), min(max(y, 0), self.size[1] - HEIGHT)

    def steps(self) -> Iterator[Step]:
        cv2.setRNGSeed(self.seed)
        for k in range(round(self.seconds * FPS)):
            t = k / FPS
            picture, visible = self._picture(t)
            found = [region for sign, box, share in visible for region in self._detect(sign, box, share, t)]
            found += [(self._phantom(), -1) for _ in range(self.rng.poisson(self.detector.phantoms))]
            order = self.rng.permutation(len(found))
            places = tuple((sign.number, tuple(box)) for sign, box, _ in visible)
            yield Step(t, picture, tuple(found[i][0] for i in order), tuple(found[i][1] for i in order), places)

    def _picture(self, t: float) -> tuple[np.ndarray, list]:
        left, top = self.look(t)
        matrix = np.array([[1, 0, left], [0, 1, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture = cv2.warpAffine(self.world, matrix, (WIDTH, HEIGHT), flags=flags)
        visible = []
        hidden = None
        if self.occluder is not None:
            part, start, speed = self.occluder
            hidden = start + speed * t - left / 4, start + speed * t - left / 4 + part.shape[1]
        painted = [(sign, self._place(sign, t, left, top)) for sign in self.signs]
        for order, (sign, (x, y, *_)) in enumerate(painted):
            if not sign.born <= t < sign.dies:
                continue
            high, wide = sign.art.shape[:2]
            move = np.array([[1, 0, x], [0, 1, y]])
            cv2.warpAffine(sign.art, move, (WIDTH, HEIGHT), dst=picture, borderMode=cv2.BORDER_TRANSPARENT)
            box = [max(x, 0), max(y, 0), min(x + wide, WIDTH - 1), min(y + high, HEIGHT - 1)]
            if hidden is not None:
                box = uncovered(box, (hidden[0], HEIGHT * 0.4, hidden[1], HEIGHT))
            for other, place in painted[order + 1 :]:
                if other.born <= t < other.dies:
                    box = uncovered(box, place)
            share = max(box[2] - box[0], 0) * max(box[3] - box[1], 0) / (wide * high)
            if share > 0.4 and box[3] - box[1] > 0.7 * high:
                visible.append((sign, box, share))
        if hidden is not None and hidden[0] < WIDTH and hidden[1] > 0:
            part, (a, b) = self.occluder[0], (round(hidden[0]), round(hidden[0]) + self.occluder[0].shape[1])
            room = picture[-part.shape[0] :, max(a, 0) : max(min(b, WIDTH), 0)]
            room[:] = part[:, max(-a, 0) :][:, : room.shape[1]]
        noise = np.empty(picture.shape, np.int16)
        cv2.randn(noise, 0, self.noise)
        return np.clip(picture + noise, 0, 255).astype(np.uint8), visible

    @staticmethod
    def _place(sign: Sign, t: float, left: float, top: float) -> tuple[float, ...]:
        """Left, top, right, bottom in the frame whose corner is there."""
        high, wide = sign.art.shape[:2]
        x, y = sign.place(t)
        x, y = x - left - wide / 2, y - top - high / 2
        return x, y, x + wide, y + high

    def _detect(self, sign: Sign, box: list, share: float, t: float) -> list[tuple[Region, int]]:
        rng = self.rng
        sign.missing = rng.random() < (
            self.detector.misses_again if sign.missing else self.detector.misses
        )  # in bursts, 17 % of all
        if sign.missing or sign.dark[0] <= t < sign.dark[1]:
            return []
        high = box[3] - box[1]
        shown = max(1, round(len(sign.text) * share)) if share < 0.95 else len(sign.text)
        ends_left = box[0] > sign.place(t)[0] - self.look(t)[0] - sign.art.shape[1] / 2 + 1  # its beginning is hidden
        pieces = [(box, sign.text[-shown:] if ends_left else sign.text[:shown])]
        if rng.random() < self.detector.pieces and " " in sign.text and box[2] - box[0] > 3 * high:
            words = sign.text.split(" ")
            cut = int(rng.integers(1, len(words)))
            one, other = " ".join(words[:cut]), " ".join(words[cut:])
            middle = box[0] + (box[2] - box[0]) * (len(one) + 0.5) / len(sign.text)
            pieces = [([box[0], box[1], middle - 0.2 * high, box[3]], one)]
            pieces += [([middle + 0.2 * high, box[1], box[2], box[3]], other)]
        return [(self._region(piece, text), sign.number) for piece, text in pieces]

    def _region(self, box: list, text: str) -> Region:
        rng, high = self.rng, box[3] - box[1]
        ends, edges = self.detector.ends * high, self.detector.edges * high
        x0, x1 = box[0] + rng.normal(0, ends), box[2] + rng.normal(0, ends)
        y0, y1 = box[1] + rng.normal(0, edges), box[3] + rng.normal(0, edges)
        x1, y1 = max(x1, x0 + 3), max(y1, y0 + 3)
        x0, x1 = (float(np.clip(x, 0, WIDTH - 1)) for x in (x0, x1))
        y0, y1 = (float(np.clip(y, 0, HEIGHT - 1)) for y in (y0, y1))
        polygon = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        score = float(np.clip(rng.normal(0.78, 0.1), 0.5, 0.98))
        return Region(polygon, score, *self._said(text)) if self.read else Region(polygon, score)

    def _said(self, text: str) -> tuple[str, float]:
        """As a reader would say it in the dark, more or less sure."""
        rng, hard = self.rng, float(self.rng.beta(1.2, 8))
        letters = [str(rng.choice(list(LETTERS))) if rng.random() < hard else letter for letter in text]
        letters = [letter for letter in letters if rng.random() > hard / 3]
        sure = (1 - hard) ** len(text)  # the chance that all of it is right
        return "".join(letters), float(np.clip(sure + rng.normal(0, 0.1), 0.02, 0.99))

    def _phantom(self) -> Region:
        rng = self.rng
        x, y, high = rng.uniform(0, WIDTH - 60), rng.uniform(0, HEIGHT - 20), rng.uniform(8, 20)
        wide = high * rng.uniform(1.5, 5)
        polygon = ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))
        text = ("".join(rng.choice(list(LETTERS), 3)), 0.2) if self.read else ("", 0.0)
        return Region(polygon, float(rng.uniform(0.5, 0.65)), *text)
