"""Training samples: a crop of a photograph, text written on some of them, and the dark frame made of it.

The batch of a step is a pure function of (seed, step), so a resumed training sees exactly what it would have seen.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.utils.data import Dataset

from cloud_node.training.darkness import darken
from cloud_node.training.pools import Box, Photo, Pool

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:-/&%$"
WRITTEN = {"receipts_sroie": 0.0, "plates_ro": 0.35, "scene_text": 0.4, "photographs": 0.6}  # share with text added
RATIOS = {"receipts_sroie": (3.0, 130.0)}  # white paper still leaves levels where a street is plain black
RATIO = (1.5, 50.0)
DROWNED = {"receipts_sroie": 2.5}  # a page is read over many pixels, so it outlives the single one


@dataclass(frozen=True)
class Sampling:
    batch: int = 8
    crop: int = 160  # pixels
    seed: int = 0
    whole: bool = False  # whole photographs squeezed into the crop, for the Zero-DCE stage
    fonts: tuple[Path, ...] = ()  # TrueType files; none takes Pillow's own


class Batches(Dataset):
    """Item `step` is (dark, clean, text): (B, 3, S, S), (B, 3, S, S) in [0, 1], and the number of the line of text that
    each pixel lies in, (B, 1, S, S), 0 for none.
    """

    def __init__(self, pools: list[Pool], sampling: Sampling):
        self.pools, self.sampling = pools, sampling
        shares = np.array([pool.share for pool in pools])
        self.shares = shares / shares.sum()

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.sampling.seed, int(self.sampling.whole), step))
        samples = [self.sample(rng) for _ in range(self.sampling.batch)]
        dark, clean, text = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True))
        return dark.movedim(-1, 1).contiguous(), clean.movedim(-1, 1).contiguous(), text[:, None]

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pool = self.pools[int(rng.choice(len(self.pools), p=self.shares))]
        photo = pool.photos[int(rng.integers(len(pool.photos)))]
        image, boxes = crop(photo, self.sampling.crop, rng, self.sampling.whole)
        if rng.random() < WRITTEN.get(pool.name, 0.5):
            boxes += write(image, rng, self.sampling.fonts)
        text = np.zeros((self.sampling.crop, self.sampling.crop), np.float32)
        for number, (left, top, right, bottom) in enumerate(boxes, 1):
            text[max(0, int(top)) : max(0, int(bottom) + 1), max(0, int(left)) : max(0, int(right) + 1)] = number
        clean = np.asarray(image, np.float32) / 255
        if rng.random() < 0.5 and not boxes:  # nobody reads mirrored text
            clean = clean[:, ::-1]
        tint = rng.uniform(0.92, 1.08, 3).astype(np.float32)
        clean = np.clip(clean * tint, 0, 1)
        ratio, drowned = RATIOS.get(pool.name, RATIO), DROWNED.get(pool.name, 1.0)
        dark = darken(clean, rng, ratio, self.sampling.whole, drowned)
        return dark, clean, text


def crop(photo: Photo, size: int, rng: np.random.Generator, whole: bool = False) -> tuple[Image.Image, list[Box]]:
    """A square of the photograph at a random scale, resized to size x size, and the boxes inside it."""
    height, width = photo.rgb.shape[:2]
    shortest = min(height, width)
    if whole:
        side = int(shortest * rng.uniform(0.7, 1.0))
    else:
        side = int(min(shortest, size * np.exp(rng.uniform(np.log(0.6), np.log(2.0)))))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    square = Image.fromarray(photo.rgb[top : top + side, left : left + side])
    scale = size / side
    square = square.resize((size, size), Image.Resampling.BILINEAR)
    boxes = [
        ((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale)
        for x0, y0, x1, y1 in photo.boxes
        if left < x1 and x0 < left + side and top < y1 and y0 < top + side
    ]
    return square, boxes


def write(image: Image.Image, rng: np.random.Generator, fonts: tuple[Path, ...] = ()) -> list[Box]:
    """Write one to four lines on the image, in place, some on a panel as a sign has; returns their boxes."""
    boxes: list[Box] = []
    for _ in range(rng.integers(1, 5)):
        words = ["".join(rng.choice(list(LETTERS), rng.integers(2, 9))) for _ in range(rng.integers(1, 4))]
        font = _font(str(fonts[rng.integers(len(fonts))]) if fonts else "", int(rng.integers(8, 34)))
        line = " ".join(words)
        left, top, right, bottom = font.getbbox(line)
        pad = int(rng.integers(2, 8))
        layer = Image.new("RGBA", (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad))
        ink, paper = _colours(rng)
        if rng.random() < 0.7:
            layer.paste((*paper, 255), (0, 0, *layer.size))
        ImageDraw.Draw(layer).text((pad - left, pad - top), line, font=font, fill=(*ink, 255))
        layer = layer.rotate(float(rng.normal(0, 6)), expand=True, resample=Image.Resampling.BILINEAR)
        x, y = (int(rng.integers(-side // 4, max(1, side * 3 // 4))) for side in image.size)
        image.paste(layer, (x, y), layer)
        boxes.append((x, y, x + layer.width, y + layer.height))
    return boxes


def _colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ink and paper, far enough apart to be read."""
    while True:
        ink, paper = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        if rng.random() < 0.5:  # signs are often black and white
            ink, paper = (np.full(3, rng.integers(0, 50)), np.full(3, rng.integers(150, 256)))
            if rng.random() < 0.5:
                ink, paper = paper, ink
        if abs(float((ink - paper) @ np.array([0.299, 0.587, 0.114]))) > 50:
            return tuple(int(v) for v in ink), tuple(int(v) for v in paper)


@cache
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)  # type: ignore[return-value]
