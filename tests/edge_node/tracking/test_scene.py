"""Shifts of real edges are found under noise, and other scenes are told apart."""

import cv2
import numpy as np
import pytest

from edge_node.tracking.scene import compare, thumb_of


def street(seed: int) -> np.ndarray:
    """(560, 840) uint8: blocks and blobs."""
    rng = np.random.default_rng(seed)
    image = np.full((560, 840), 90, np.uint8)
    for _ in range(140):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 8, 8), (840, 560, 120, 90)))
        cv2.rectangle(image, (x, y), (x + w, y + h), int(rng.integers(10, 245)), -1)
    return image


def seen(image: np.ndarray, x: int, y: int, noise: float, seed: int) -> np.ndarray:
    part = image[y : y + 360, x : x + 640]
    return np.clip(part + np.random.default_rng(seed).normal(0, noise, part.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 15, 40])
@pytest.mark.parametrize("shift", [(0, 0), (7, -5), (-80, 40)])
def test_a_shift_is_found(shift: tuple[int, int], noise: float) -> None:
    scene = street(1)
    before, after = seen(scene, 100, 100, noise, 1), seen(scene, 100 - shift[0], 100 - shift[1], noise, 2)
    found, alike = compare(thumb_of(before), thumb_of(after), [])
    assert np.abs(np.subtract(found, shift)).max() < 1.5 and alike > 0.2


def test_another_scene_is_not_alike() -> None:
    thumbs = [thumb_of(seen(street(seed), 100, 100, 5, seed)) for seed in range(5)]
    assert max(compare(a, b, [])[1] for a in thumbs for b in thumbs if a is not b) < 0.3


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (9, 2000), (500, 300)])
def test_flat_and_odd_pictures_are_like_nothing(size: tuple[int, int]) -> None:
    flat, noisy = np.zeros(size, np.uint8), np.random.default_rng(0).integers(0, 255, size, np.uint8)
    for one in (flat, noisy):
        shift, alike = compare(thumb_of(flat), thumb_of(one), [(5.0, 5.0), (1e9, float(size[1]))])
        assert np.isfinite(shift).all() and abs(alike) < 1e-6
