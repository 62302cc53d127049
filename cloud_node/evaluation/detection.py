"""Text detection by the ICDAR 2015 protocol: one-to-one matches at IoU above 0.5, summed over the corpus.

Karatzas et al., ICDAR 2015 Competition on Robust Reading, task 4.1. Outlines marked '###' are not counted, nor is
what is found on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import SourceError
from common.frame import Region
from common.polygons import Polygon, match

DONT_CARE = "###"
DONT_CARE_SHARE = 0.5  # a found region is not counted when more of it than this lies on an uncounted outline


@dataclass(frozen=True)
class Outline:
    """Where text is known to stand, in pixels; `counts` is false for what cannot be read ('###')."""

    polygon: Polygon
    counts: bool = True
    text: str = ""  # what it says, where that is known


@dataclass(frozen=True)
class Counts:
    """Of one image: regions found, those that match, outlines there are; and which outlines were matched."""

    found: int
    right: int
    truth: int
    hits: tuple[int, ...] = ()  # indices into the outlines that count


def count(found: Sequence[Region], truth: Sequence[Outline]) -> Counts:
    """Compare what a detector found with what is there. An image without counted outlines adds false finds only."""
    uncounted = [outline.polygon for outline in truth if not outline.counts]
    counted = [outline.polygon for outline in truth if outline.counts]
    kept = [region for region in found if not any(covered(region, there) > DONT_CARE_SHARE for there in uncounted)]
    pairs = match(kept, counted)
    return Counts(len(kept), len(pairs), len(counted), tuple(sorted(j for _, j in pairs)))


def covered(region: Region, outline: Polygon) -> float:
    """Share of the region's area, 0..1, that lies on the outline; 0 for a region without area."""
    from shapely import MultiPoint  # comes with rapidocr, as for `match`

    one, other = MultiPoint(region.polygon).convex_hull, MultiPoint(outline).convex_hull
    return float(one.intersection(other).area / one.area) if one.area > 0 else 0.0


def read_outlines(path: Path) -> list[Outline]:
    """Outlines of an ICDAR 2015 file: x1,y1,...,x4,y4,text in each line; text '###' does not count.

    Raises:
        SourceError: for a line that is no outline.
    """
    outlines = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        values = line.split(",", 8)
        try:
            x1, y1, x2, y2, x3, y3, x4, y4 = (float(value) for value in values[:8])
        except ValueError:
            raise SourceError(f"{path}, line {number}: expected x1,y1,x2,y2,x3,y3,x4,y4,text, got {line!r}") from None
        text = values[8].strip() if len(values) > 8 else ""
        outlines.append(Outline(((x1, y1), (x2, y2), (x3, y3), (x4, y4)), text != DONT_CARE, text))
    return outlines
