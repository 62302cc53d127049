"""Fusion in time: each frame comes back as itself with the noise of many taken out, where the scene stood still.

A picture is kept in floating point, as it builds up from the frames: each new one is aligned with it, tested against it
block by block, and merged; blocks that changed start anew from the newest frame. So what moves is never older than the
newest frame, no frame waits for another, and as many come out as go in. docs/fusion.md has the figures.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np

from common.filters import components
from common.pixels import Bytes, Levels, RawImage
from edge_node.alignment import find_shift, resampled, rolled
from edge_node.changes import BLOCK, changed_blocks, grid_of

CUT_SHARE: Final = 0.5  # of the blocks; when more changed, it is another scene, light or exposure
LEAST_SIDE: Final = 4 * BLOCK  # pixels; smaller images come back as they are
BRIGHT: Final = 96  # mean level of luma from which on noise keeps nothing from being read
SAME_PLACE: Final = 0.06  # pixels; a smaller shift is none


@dataclass(slots=True)
class _Plane:
    """One component of the picture that builds up."""

    levels: Levels  # (h, w)
    scale: tuple[float, float]  # its pixels in one of luma, right and down
    lag: tuple[float, float] = (0.0, 0.0)  # its own pixels that it stands off from luma: it moves by whole ones


@dataclass(slots=True)
class Fuser:
    """Merges each frame of one source with those before it.

    Args:
        frames: so many count evenly; later, each new one counts 1/frames. 1 = off.
    """

    frames: int
    merged: float = 1.0  # frames in the last one that came out, on average over its blocks
    shift: tuple[float, float] = (0.0, 0.0)  # of the last one against the picture, pixels right and down
    offset: tuple[float, float] = (0.0, 0.0)  # what came out shows at x what the newest showed at x + offset; below 1
    resets: int = 0
    _planes: list[_Plane] = field(default_factory=list)
    _counts: Any = None  # (rows, columns) float32: frames in each block
    _like: tuple[Any, ...] = ()

    def reset(self) -> None:
        """Forget what was there."""
        self._planes, self._like, self.merged = [], (), 1.0
        self.shift = self.offset = (0.0, 0.0)

    def add(self, image: RawImage) -> RawImage:
        """The frame with less noise, of the same size and format; the frame itself at a start and at a cut.

        A new size or pixel format, and a change in more than half of the blocks, start anew. Bright frames are left as
        they are.
        """
        if self.frames <= 1:
            return image
        if min(image.width, image.height) < LEAST_SIDE or is_bright(image):
            self.reset()
            return image
        like = (image.width, image.height, image.pixel_format, image.color_range, image.color_matrix)
        newest = planes_of(image)
        if like != self._like:
            self.resets += bool(self._like)
            self._like = like
            return self._start(image, newest)
        moved = self._align(newest)
        differences = [
            cv2.subtract(plane, kept.levels, dtype=cv2.CV_32F) for plane, kept in zip(moved, self._planes, strict=True)
        ]
        grid = self._counts.shape
        changed = changed_blocks(newest[0], differences, grid)
        if changed.mean() > CUT_SHARE:
            self.resets += 1
            return self._start(image, newest)
        self._counts = np.where(changed, 1, np.minimum(self._counts + 1, self.frames)).astype(np.float32)
        self.merged = float(self._counts.mean())
        self._merge(moved, differences)
        return joined(image, [cv2.convertScaleAbs(plane.levels) for plane in self._planes])

    def _start(self, image: RawImage, newest: list[Bytes]) -> RawImage:
        height, width = newest[0].shape
        self._planes = [
            _Plane(plane.astype(np.float32), (plane.shape[1] / width, plane.shape[0] / height)) for plane in newest
        ]
        self._counts = np.ones(grid_of(height, width), np.float32)
        self.merged, self.shift, self.offset = 1.0, (0.0, 0.0), (0.0, 0.0)
        return image

    def _align(self, newest: list[Bytes]) -> "list[np.ndarray[Any, Any]]":
        """Bring the picture to the newest frame by whole pixels, and the newest to the picture by the fraction left.

        So the picture is never interpolated, however long it lives, and the newest at most once.
        """
        self.shift = find_shift(self._planes[0].levels, newest[0])
        moved: list[np.ndarray[Any, Any]] = []
        for plane, kept in zip(newest, self._planes, strict=True):
            wanted = [self.shift[i] * _step(kept.scale[i]) + kept.lag[i] for i in (0, 1)]
            whole = (round(wanted[0]), round(wanted[1]))
            part = (wanted[0] - whole[0], wanted[1] - whole[1])
            if not moved:
                self.offset = part
                blocks = (round(whole[0] / BLOCK), round(whole[1] / BLOCK))
                if any(blocks):
                    self._counts = rolled(self._counts, blocks, np.ones_like(self._counts))
            kept.lag = (
                part[0] - self.offset[0] * _step(kept.scale[0]),
                part[1] - self.offset[1] * _step(kept.scale[1]),
            )
            moved.append(resampled(plane, part) if max(map(abs, part)) > SAME_PLACE else plane)
            if any(whole):
                kept.levels = rolled(kept.levels, whole, moved[-1])
        return moved

    def _merge(self, moved: "list[np.ndarray[Any, Any]]", differences: list[Levels]) -> None:
        if self._counts.min() == self.frames:
            for plane, kept in zip(moved, self._planes, strict=True):
                cv2.accumulateWeighted(plane, kept.levels, 1 / self.frames)
            return
        weights = (1 / self._counts).astype(np.float32)
        for difference, kept in zip(differences, self._planes, strict=True):
            height, width = difference.shape
            weight = cv2.resize(weights, (width, height), interpolation=cv2.INTER_LINEAR)
            cv2.accumulateProduct(difference, weight, kept.levels)


def _step(scale: float) -> float:
    """1 or 1/2: odd sizes round chroma up, which moves nothing."""
    return 1.0 if scale > 0.75 else 0.5


def is_bright(image: RawImage) -> bool:
    luma, _ = components(image.data, image.pixel_format, image.width, image.height)
    return float(luma[0, ::8, ::8].mean()) >= BRIGHT


def planes_of(image: RawImage) -> list[Bytes]:
    """Contiguous (h, w) components of a raw image: luma first, in RGB24 green."""
    luma, rest = components(image.data, image.pixel_format, image.width, image.height)
    return [np.ascontiguousarray(plane) for plane in (*luma, *rest)]


def joined(image: RawImage, planes: list[Bytes]) -> RawImage:
    """Undo `planes_of`, for an image like `image`."""
    data = np.empty_like(image.data)
    luma, rest = components(data, image.pixel_format, image.width, image.height)
    for target, plane in zip((*luma, *rest), planes, strict=True):
        target[...] = plane
    return RawImage(data, image.width, image.height, image.pixel_format, image.color_range, image.color_matrix)
