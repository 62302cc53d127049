"""Parts of the picture that are named by the user: `X,Y,W,H`, several apart by `;`."""

import math
from dataclasses import dataclass

from edge_node.glance import TILE, Glance


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle: left, top, width, height; fractions of the frame where all are at most 1, else pixels."""

    x: float
    y: float
    width: float
    height: float

    def in_pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in a frame of this size, cut off at its edges."""
        across, down = (width, height) if self.is_fraction else (1, 1)
        left, top = self.x * across, self.y * down
        right, bottom = left + self.width * across, top + self.height * down
        return min(left, width), min(top, height), min(right, width), min(bottom, height)

    @property
    def is_fraction(self) -> bool:
        return max(self.x, self.y, self.width, self.height) <= 1

    def tiles(self, look: Glance) -> tuple[slice, slice]:
        """Rows and columns of the tiles that it touches; at least one."""
        left, top, right, bottom = self.in_pixels(look.width, look.height)
        rows, columns = look.tiles.shape
        return _touched(top, bottom, rows), _touched(left, right, columns)

    def covers(self, x: float, y: float, width: int, height: int) -> bool:
        """Whether a point, in pixels of a frame of this size, lies in it."""
        left, top, right, bottom = self.in_pixels(width, height)
        return left <= x <= right and top <= y <= bottom


def _touched(start: float, end: float, count: int) -> slice:
    first = min(int(start // TILE), count - 1)
    return slice(first, min(max(math.ceil(end / TILE), first + 1), count))


def parse_areas(text: str, flag: str) -> tuple[Area, ...]:
    """Areas of `X,Y,W,H;X,Y,W,H`; none of an empty text.

    Raises:
        ValueError: that begins with `flag` and the part that is wrong.

    >>> parse_areas("0.5,0.5,0.2,0.25", "--essential-region")
    (Area(x=0.5, y=0.5, width=0.2, height=0.25),)
    """
    return tuple(_parse(part.strip(), flag) for part in text.split(";") if part.strip())


def _parse(part: str, flag: str) -> Area:
    try:
        x, y, width, height = (float(number) for number in part.split(","))
    except ValueError:
        raise ValueError(f"{flag} {part}: four numbers, as 0.4,0.5,0.2,0.3 (fractions) or 640,360,200,100") from None
    area = Area(x, y, width, height)
    if not all(math.isfinite(number) for number in (x, y, width, height)) or min(x, y) < 0 or min(width, height) <= 0:
        raise ValueError(f"{flag} {part}: left and top from 0 on, width and height above 0")
    if area.is_fraction and (x + width > 1.0001 or y + height > 1.0001 or x >= 1 or y >= 1):
        raise ValueError(f"{flag} {part}: reaches beyond the frame, whose fractions end at 1")
    return area
