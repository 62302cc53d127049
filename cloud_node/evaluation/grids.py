"""Picture grids: the dark picture, what each row made of it, and its bright twin, side by side with names."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cloud_node.evaluation.cases import Picture
from common.pixels import Bytes

TILE = 320  # pixels of a tile's width
LABEL = 20  # pixels of the strip with its name
ACROSS = 5  # tiles in a line
PAPER, INK = (255, 255, 255), (0, 0, 0)


@dataclass
class Grids:
    """Collects tiles of the first `pictures` pictures of each set, then writes two grids a set: whole and 1:1.

    Only tiles are kept, so memory does not grow with the pictures.
    """

    pictures: int
    _tiles: dict[tuple[str, str], dict[int, dict[str, Image.Image]]] = field(default_factory=dict)

    def keep(self, cases: str, place: int, row: str, picture: Picture, output: Bytes) -> None:
        """Take a row's output of the place-th picture of a set."""
        if place < self.pictures:
            for kind, tile in (("whole", whole(output)), ("detail", detail(output, picture))):
                self._tiles.setdefault((cases, kind), {}).setdefault(place, {})[row] = tile

    def write(self, folder: Path) -> list[Path]:
        """PNG files in `folder`, named by set and kind; returns them."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for (cases, kind), places in self._tiles.items():
            path = folder / f"{re.sub('[^a-z0-9]+', '-', cases.lower())}-{kind}.png"
            stack([lines(tiles) for tiles in places.values()]).save(path, optimize=True)
            written.append(path)
        return written


def whole(rgb: Bytes) -> Image.Image:
    """The picture at a tile's width; a tall one is cut to 1.5 times that height."""
    image = Image.fromarray(rgb)
    image = image.resize((TILE, max(1, round(image.height * TILE / image.width))), Image.Resampling.LANCZOS)
    return image.crop((0, 0, TILE, min(image.height, 3 * TILE // 2)))


def detail(rgb: Bytes, picture: Picture) -> Image.Image:
    """A tile's square at 1:1 around the first counted outline, else at the middle."""
    height, width = rgb.shape[:2]
    x, y = width / 2, height / 2
    if outline := next((one.polygon for one in picture.truth if one.counts), None):
        x, y = (float(np.mean(axis)) for axis in zip(*outline, strict=True))
    left = int(min(max(0, x - TILE / 2), max(0, width - TILE)))
    top = int(min(max(0, y - TILE / 2), max(0, height - TILE)))
    return Image.fromarray(np.ascontiguousarray(rgb[top : top + TILE, left : left + TILE]))


def lines(tiles: dict[str, Image.Image]) -> Image.Image:
    """Tiles with their names above, ACROSS in a line."""
    height = LABEL + max(tile.height for tile in tiles.values())
    rows = -(-len(tiles) // ACROSS)
    sheet = Image.new("RGB", (min(len(tiles), ACROSS) * (TILE + 4), rows * (height + 4)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (name, tile) in enumerate(tiles.items()):
        x, y = i % ACROSS * (TILE + 4), i // ACROSS * (height + 4)
        draw.text((x + 2, y + 1), name, INK, font)
        sheet.paste(tile, (x, y + LABEL))
    return sheet


def stack(sheets: list[Image.Image]) -> Image.Image:
    """Sheets below each other."""
    whole = Image.new("RGB", (max(one.width for one in sheets), sum(one.height + 8 for one in sheets)), PAPER)
    y = 0
    for one in sheets:
        whole.paste(one, (0, y))
        y += one.height + 8
    return whole
