"""Receipts as a camera sees them in the dark, lit by `fast`, with what they say: for benchmarks of the reader.

The dark is that of `cloud_node.evaluation`; each scene is a burst of eight frames in which the camera sways by up to
3 pixels (benchmarks/bursts.py), of which the newest is read, alone or with the others fused into it.
"""

import argparse
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bursts import burst
from PIL import Image

from cloud_node import laegan
from cloud_node.evaluation.cases import DARKNESS, read_image
from cloud_node.evaluation.detection import Outline, read_outlines
from cloud_node.laegan import load
from cloud_node.training import pools
from common.color import to_rgb
from edge_node.fusion import Fuser

BRIGHT, DARK, LIT, FUSED = "bright", "dark", "enhanced", "fused, enhanced"
AGAIN = "enhanced, in doubt read again"  # the same picture as LIT, with DARK beside it
FRAMES, SWAY = 8, 3.0


def receipts_parser(description: str | None) -> argparse.ArgumentParser:
    """What a benchmark of the reader takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    parser.add_argument("--limit", type=int, default=0, help="receipts, evenly spread (default: all 30)")
    parser.add_argument("--cache", type=Path, help="folder to keep lit pictures in")
    return parser


@cache
def weights() -> str:
    """A digest of the weights of `fast`, so that what others lit is not taken for theirs."""
    return hashlib.sha256((Path(laegan.__file__).parent / "weights" / "fast.safetensors").read_bytes()).hexdigest()[:8]


def made_by(condition: str) -> str:
    """What stands in the names of files of a condition that the network has a part in."""
    return "" if condition in (BRIGHT, DARK) else f" {weights()}"


@dataclass(frozen=True)
class Scene:
    """One receipt, in one darkness."""

    name: str
    darkness: str  # a key of DARKNESS
    pictures: dict[str, np.ndarray]  # (H, W, 3) uint8 by condition
    truth: list[Outline]


class Scenes:
    """Makes scenes, and keeps their pictures in a folder where one is given.

    Args:
        data: folder that holds receipts_sroie.
        limit: so many receipts, evenly spread; 0 = all.
        training: the receipts that training saw (one frame each), rather than those held out.
        part: (1, 4) = the first of four parts of them.
    """

    def __init__(
        self,
        data: Path,
        limit: int = 0,
        *,
        cache: Path | None = None,
        training: bool = False,
        part: tuple[int, int] = (1, 1),
    ) -> None:
        seen, held_out = pools.files(data, "receipts_sroie")
        paths = seen if training else held_out
        count = min(limit or len(paths), len(paths))
        self.paths = [(seed, paths[seed]) for seed in (i * len(paths) // count for i in range(count))]
        self.paths = self.paths[part[0] - 1 :: part[1]]
        self.cache, self.training = cache, training
        if cache:
            cache.mkdir(parents=True, exist_ok=True)
        self.conditions = (BRIGHT, DARK, LIT) if training else (BRIGHT, DARK, LIT, FUSED)
        self.darkness = tuple(DARKNESS)
        self._network: Any = None

    def __iter__(self) -> Iterator[Scene]:
        for seed, path in self.paths:
            truth = read_outlines(path.parent.parent / "gt" / f"{path.stem}.txt")
            for darkness in DARKNESS:
                yield Scene(path.name, darkness, self._pictures(path, seed, darkness), truth)

    def __len__(self) -> int:
        return len(self.paths) * len(DARKNESS)

    def _pictures(self, path: Path, seed: int, darkness: str) -> dict[str, np.ndarray]:
        made: dict[str, np.ndarray] = {}
        files = {name: self._file(path, darkness, name) for name in self.conditions}
        if all(file and file.exists() for file in files.values()):
            return {name: read_image(file) for name, file in files.items() if file}
        bright = read_image(path)
        height, width = (side - side % 2 for side in bright.shape[:2])
        made[BRIGHT] = bright[:height, :width]
        taken = burst(bright, seed, DARKNESS[darkness], 1 if self.training else FRAMES, sway_pixels=SWAY)
        made[DARK] = to_rgb(taken.frames[-1])
        made[LIT] = self.lit(made[DARK])
        if FUSED in self.conditions:
            fuser = Fuser(FRAMES)
            for frame in taken.frames:
                merged = fuser.add(frame)
            made[FUSED] = self.lit(to_rgb(merged))
        for name, file in files.items():
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(made[name]).save(file, compress_level=1)
        return made

    def _file(self, path: Path, darkness: str, condition: str) -> Path | None:
        return self.cache and self.cache / f"{path.stem} {darkness} {condition}{made_by(condition)}.png"

    def lit(self, rgb: np.ndarray) -> np.ndarray:
        """As the cloud node's `fast` gives it back."""
        self._network = self._network or load("fast")
        with torch.inference_mode():
            image = self._network(torch.from_numpy(rgb.astype(np.float32)).movedim(-1, 0)[None] / 255)
        return (image[0].movedim(0, -1).numpy() * 255 + 0.5).clip(0, 255).astype(np.uint8)


def windows(scene: Scene, condition: str, width: int = 600, height: int = 400) -> Iterator[tuple[np.ndarray, Any]]:
    """Frames of that size cut from a picture, with the outlines in them; those that are cut through do not count."""
    rgb = scene.pictures[condition]
    rows, columns = (max(1, round(side / step)) for side, step in zip(rgb.shape[:2], (height, width), strict=True))
    for top in np.linspace(0, max(0, rgb.shape[0] - height), rows).astype(int):
        for left in np.linspace(0, max(0, rgb.shape[1] - width), columns).astype(int):
            corner, size = np.array([left, top]), np.array([width, height])
            moved = []
            for outline in scene.truth:
                points = np.asarray(outline.polygon) - corner
                whole = bool((points >= 0).all() and (points <= size).all())
                if whole or (points.max(axis=0) > 0).all() and (points.min(axis=0) < size).all():
                    inside = points.clip(0, size)
                    moved.append(Outline([tuple(p) for p in inside.tolist()], outline.counts and whole, outline.text))
            yield rgb[top : top + height, left : left + width], moved


def progress(scenes: Scenes, say: Callable[[str], None] = print) -> Iterator[Scene]:
    for number, scene in enumerate(scenes, 1):
        yield scene
        say(f"{number} of {len(scenes)}: {scene.name}, {scene.darkness}")
