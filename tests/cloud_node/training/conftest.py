"""Small made photographs, and settings that train on them within a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloud_node.training.recipes import RECIPES
from cloud_node.training.samples import Sampling
from cloud_node.training.settings import Settings


def paint(folder: Path, count: int, seed: int = 0, level: tuple[int, int] = (60, 250)) -> Path:
    """A folder of blotches, as different as photographs are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(*level, (6, 8, 3), dtype=np.uint8))
        coarse.resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{seed}-{i}.png")
    return folder


@pytest.fixture
def painted() -> Callable[..., Path]:
    return paint


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photographs of normal light."""
    return paint(tmp_path / "photos", 4)


@pytest.fixture
def small() -> Callable[..., Settings]:
    """small(steps, recipe="default", **settings): preset edge, two crops of 64 pixels a batch, thin discriminators."""

    def make(steps: int, recipe: str = "default", **settings: Any) -> Settings:
        chosen = replace(settings.pop("changed", RECIPES[recipe]), discriminator_width=4)
        sampling = Sampling(batch=2, crop=64, seed=3)
        return Settings(**{"preset": "edge", "workers": 0, "sampling": sampling} | settings, steps=steps, recipe=chosen)

    return make
