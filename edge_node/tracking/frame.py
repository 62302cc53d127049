"""A frame as the tracker sees it, and where the camera looks in it."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from common.frame import Reading, Region
from common.pixels import Bytes
from edge_node.tracking import scene
from edge_node.tracking.boxes import Box, Vectors, box_of, patches
from edge_node.tracking.pairing import Seen

MOMENTS: Final = 8  # frames whose thumbnails are kept, for late ones
TRUST: Final = 0.12  # likeness of two frames at which their shift is believed; unlike ones have .1 once in ten
KEY: Final = 0.8  # times as like an earlier frame as the one before
NEAR_S: Final = 1.0  # that a camera's speed is believed
BORDER: Final = 2.0  # pixels
SAME_SHAPE: Final = 0.02  # that the ratio of two frames' sides may differ


@dataclass(slots=True, eq=False)
class Frame:
    """One frame; `at` and `move_at` in seconds, lengths in pixels of the first frame of its strand."""

    reading: Reading
    rgb: Bytes
    gray: Bytes
    at: float
    move_at: float
    seen: list[Seen]
    looks: Vectors
    thumb: scene.Thumb
    scale: float  # from its own pixels to those
    there: Vectors  # what is where each of the known ones is expected
    camera: tuple[float, float] = (0.0, 0.0)  # where the scene's origin is in it
    alike: float = 1.0  # likeness to the frame that is nearest in time; 1 for the first one

    @property
    def regions(self) -> tuple[Region, ...]:
        return self.reading.regions

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in its own pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def cuts(self, column: int) -> bool:
        """Whether the frame's border may cut a region."""
        outline, (width, height) = self.regions[column].polygon, self.size
        return any(not (BORDER < x < width - 1 - BORDER and BORDER < y < height - 1 - BORDER) for x, y in outline)

    def in_scene(self, column: int) -> Box:
        """The box of a region where it is in the scene."""
        box = self.seen[column].box
        return replace(box, x=box.x - self.camera[0], y=box.y - self.camera[1])


class Camera:
    """Where it looks in each frame, from the frames before it."""

    def __init__(self) -> None:
        self._moments: deque[Frame] = deque(maxlen=MOMENTS)
        self._size = (0, 0)
        self._key: Frame | None = None  # that the next ones are placed by, as long as they are like it
        self._speed = (0.0, 0.0)  # of the scene through the frame, in pixels a second

    def fits(self, rgb: Bytes) -> bool:
        """Whether the picture has the shape of those before it."""
        width, height = self._size
        return not width or abs(rgb.shape[0] * width / (rgb.shape[1] * height) - 1) < SAME_SHAPE

    def look(self, reading: Reading, rgb: Bytes, at: float, move_at: float) -> Frame:
        """The frame, placed in the scene."""
        if not self._size[0]:
            self._size = (rgb.shape[1], rgb.shape[0])
        scale = self._size[0] / rgb.shape[1]
        gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        seen = [Seen(box_of(one.polygon, scale), one.text, one.confidence) for one in reading.regions]
        looks, thumb = patches(gray, reading.regions), scene.thumb_of(gray, scale)
        frame = Frame(reading, rgb, gray, at, move_at, seen, looks, thumb, scale, looks[:0])
        if self._moments:
            nearest = min(self._moments, key=lambda moment: abs(moment.at - at))
            passed = at - nearest.at
            guess = (self._speed[0] * passed, self._speed[1] * passed) if abs(passed) < NEAR_S else (0.0, 0.0)
            shift, frame.alike = scene.compare(nearest.thumb, thumb, [guess])
            x, y = shift if frame.alike >= TRUST else guess
            frame.camera = (nearest.camera[0] + x, nearest.camera[1] + y)
            if self._key is not None and self._key.at != nearest.at:
                # From frame to frame small errors would add up.
                guess = (frame.camera[0] - self._key.camera[0], frame.camera[1] - self._key.camera[1])
                (x, y), alike = scene.compare(self._key.thumb, thumb, [guess])
                if alike > KEY * frame.alike:
                    frame.camera = (self._key.camera[0] + x, self._key.camera[1] + y)
                elif at > nearest.at:
                    self._key = None
        return frame

    def remember(self, frame: Frame) -> None:
        """Keep the frame's thumbnail for those after it."""
        newest = max(self._moments, key=lambda moment: moment.at, default=None)
        if newest is not None and frame.at > newest.at:
            passed = frame.at - newest.at
            self._speed = (
                (frame.camera[0] - newest.camera[0]) / passed,
                (frame.camera[1] - newest.camera[1]) / passed,
            )
        bare = np.zeros((0, 0, 3), np.uint8)
        kept = replace(frame, rgb=bare, gray=bare[..., 0], seen=[], looks=frame.looks[:0], there=frame.looks[:0])
        self._moments.append(kept)
        self._key = self._key or kept

    def forget(self) -> None:
        """Another scene begins."""
        self._moments.clear()
        self._key = None
        self._size, self._speed = (0, 0), (0.0, 0.0)
