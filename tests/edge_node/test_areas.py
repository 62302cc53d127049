import numpy as np
import pytest

from common.errors import SettingsError
from common.settings import load
from edge_node.areas import Area, parse_areas
from edge_node.glance import Glance
from edge_node.settings import EdgeSettings


def look(width: int, height: int) -> Glance:
    return Glance(np.zeros((max(1, height // 16), max(1, width // 16)), np.float32), 0.0, width, height)


def test_fractions_and_pixels_mean_the_same_place() -> None:
    [fractions] = parse_areas("0.5,0.25,0.25,0.5", "--x")
    [pixels] = parse_areas(" 640,180,320,360 ", "--x")
    assert fractions.in_pixels(1280, 720) == pixels.in_pixels(1280, 720) == (640, 180, 960, 540)
    assert fractions.tiles(look(1280, 720)) == pixels.tiles(look(1280, 720)) == (slice(11, 34), slice(40, 60))


def test_several_and_none() -> None:
    assert len(parse_areas("0,0,1,0.1; 10,20,30,40;", "--x")) == 2
    assert parse_areas("", "--x") == ()


@pytest.mark.parametrize("size", [(1280, 720), (70, 50), (5, 5)])
@pytest.mark.parametrize("area", [Area(0, 0, 1, 1), Area(0.999, 0.999, 0.001, 0.001), Area(5000, 5000, 10, 10)])
def test_there_is_always_a_tile(area: Area, size: tuple[int, int]) -> None:
    view = look(*size)
    assert view.tiles[area.tiles(view)].size > 0


def test_a_point_inside() -> None:
    area = Area(0.5, 0.5, 0.5, 0.5)
    assert area.covers(1279, 719, 1280, 720) and not area.covers(639, 719, 1280, 720)


@pytest.mark.parametrize(
    "text", ["1,2,3", "a,b,c,d", "0.5,0.5,0.6,0.1", "-1,0,5,5", "0,0,0,1", "nan,0,1,1", "0.1,0.1,0.2,inf", "1,0,1,1"]
)
def test_what_is_no_area_is_told_with_its_flag(text: str) -> None:
    with pytest.raises(ValueError, match=f"--essential-region {text}: "):
        parse_areas(f"0,0,1,1;{text}", "--essential-region")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--essential-region", "1,2,3"], "--essential-region 1,2,3: four numbers"),
        (["--every", "0"], "--every 0: at least 1"),
        (["--still-s", "-1"], "--still-s -1: at least 0"),
        (["--gate", "on"], "--gate: 'on' is not one of auto, off"),
        (["--local", "yes"], "--local: 'yes' is not one of auto, off, only"),
    ],
)
def test_flags_that_do_not_fit(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(EdgeSettings, ["--camera", "0", *flags], {})
