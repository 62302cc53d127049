import cv2
import numpy as np
import pytest
from skimage import data

from common.pixels import RawImage
from edge_node.areas import Area
from edge_node.change import has_changed
from edge_node.glance import Glance, glance

SCENE = cv2.resize(data.astronaut(), (640, 480)).astype(np.float32)
PLATE = (slice(300, 324), slice(400, 500))


def seen(light: float, noise: float, seed: int, plate: bool = False, more: float = 0.0) -> Glance:
    """A still scene in this share of its light, with this much noise."""
    rgb = SCENE * light
    if plate:
        rgb[PLATE] = 235 * light
    rgb = rgb + more + np.random.default_rng(seed).normal(0, noise, rgb.shape)
    return glance(RawImage.from_rgb(rgb.clip(0, 255).round().astype(np.uint8)))


@pytest.mark.parametrize(("light", "noise"), [(1.0, 0.0), (1.0, 4.0), (0.3, 8.0), (0.1, 6.0), (0.03, 2.0)])
def test_noise_is_nothing_new(light: float, noise: float) -> None:
    looks = [seen(light, noise, seed) for seed in range(6)]
    assert not any(has_changed(a, b) for a in looks for b in looks)


@pytest.mark.parametrize(("light", "noise"), [(1.0, 0.0), (1.0, 8.0), (0.3, 6.0), (0.1, 3.0)])
def test_a_number_plate_is_new_and_its_going_too(light: float, noise: float) -> None:
    empty, plate = seen(light, noise, 0), seen(light, noise, 1, plate=True)
    assert has_changed(empty, plate) and has_changed(plate, empty)


def test_only_where_it_is_looked_for() -> None:
    empty, plate = seen(1.0, 2.0, 0), seen(1.0, 2.0, 1, plate=True)
    assert has_changed(empty, plate, (Area(0.6, 0.6, 0.2, 0.1),))
    assert not has_changed(empty, plate, (Area(0, 0, 0.5, 0.5),))
    assert has_changed(empty, plate, (Area(0, 0, 0.5, 0.5), Area(390, 290, 100, 40)))


def test_the_cameras_drift_is_nothing_new_and_a_lamp_is() -> None:
    assert not has_changed(seen(0.3, 2.0, 0), seen(0.3, 2.0, 1, more=2.0))
    assert has_changed(seen(0.1, 2.0, 0), seen(0.3, 2.0, 1))


def test_another_size_is_new() -> None:
    small = glance(RawImage.from_rgb(np.zeros((100, 100, 3), np.uint8)))
    assert has_changed(small, seen(1.0, 0.0, 0))
