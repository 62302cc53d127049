"""Scenes with signs whose places are known, as a camera and a perfect detector see them."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from common.frame import FrameId, Outcome, Priority, Reading, Region
from edge_node.sights import Sight
from edge_node.tracking import TextTracker

WIDTH, HEIGHT = 480, 270
START_UNIX_NS = 1_800_000_000 * 10**9


@dataclass
class Sign:
    """At second t its centre is at `x + vx t`, `y + vy t`, in the scene."""

    text: str
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    read: bool = True

    @property
    def size(self) -> tuple[int, int]:
        return 14 * len(self.text), 24


def background(seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scene = np.full((HEIGHT * 2, WIDTH * 2, 3), 70, np.uint8)
    for _ in range(160):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 6, 6), (WIDTH * 2, HEIGHT * 2, 70, 60)))
        cv2.rectangle(scene, (x, y), (x + w, y + h), tuple(int(v) for v in rng.integers(20, 200, 3)), -1)
    return scene


def region_of(sign: Sign, t: float, camera: tuple[float, float] = (0.0, 0.0), score: float = 0.9) -> Region:
    wide, high = sign.size
    x, y = sign.x + sign.vx * t - camera[0] - wide / 2, sign.y + sign.vy * t - camera[1] - high / 2
    polygon = ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))
    return Region(polygon, score, sign.text, 0.9) if sign.read else Region(polygon, score)


def picture(scene: np.ndarray, signs: list[Sign], t: float, camera: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """(270, 480, 3); `camera` is the scene's point in its top left corner."""
    left, top = round(camera[0]), round(camera[1])
    rgb = scene[top : top + HEIGHT, left : left + WIDTH].copy()
    for sign in signs:
        (x0, y0), _, (x1, y1), _ = region_of(sign, t, camera).polygon
        cv2.rectangle(rgb, (round(x0), round(y0)), (round(x1), round(y1)), (235, 235, 235), -1)
        cv2.putText(rgb, sign.text, (round(x0) + 4, round(y1) - 6), 0, 0.6, (20, 20, 20), 2)
    return rgb


@dataclass
class Watched:
    """A tracker whose clock is the test's, and all that it told."""

    live: bool = True
    ordered: bool = True
    timeout_s: float = 10.0
    most: int = 500
    now_s: float = 1000.0
    told: dict[str, Sight] = field(default_factory=dict)
    news: list[Sight] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.tracker = TextTracker(
            "run", timeout_s=self.timeout_s, ordered=self.ordered, live=self.live, most=self.most
        )

    def see(
        self,
        rgb: np.ndarray,
        regions: list[Region],
        taken_s: float | None = None,
        *,
        session: str = "s",
        clock_off_s: float = 0.0,
        priority: Priority = Priority.STANDARD,
    ) -> list[str]:
        """A frame that was taken then (by default now); the sight of each region."""
        taken_s = self.now_s if taken_s is None else taken_s
        self.count += 1
        unix_ns = START_UNIX_NS + round((taken_s + clock_off_s) * 1e9)
        reading = Reading(
            FrameId("e", session, self.count), "camera 0", unix_ns, priority,
            Outcome.ENHANCED, regions=tuple(regions), latency_ns=round((self.now_s - taken_s) * 1e9),
        )  # fmt: skip
        tracked, news = self.tracker.observe(reading, rgb, round(taken_s * 1e9))
        assert [(r.polygon, r.text) for r in tracked.regions] == [(r.polygon, r.text) for r in regions]
        self._keep(news)
        return [region.sight for region in tracked.regions]

    def close(self) -> None:
        self._keep(self.tracker.close())

    def _keep(self, news: tuple[Sight, ...]) -> None:
        for sight in news:
            assert not (sight.id in self.told and self.told[sight.id].ended), "an ended sight came back"
            self.told[sight.id] = sight
        self.news += news
