import numpy as np
import pytest
from PIL import Image
from processes import dark_sign

from common.frame import Region
from common.pixels import RawImage
from edge_node.areas import Area
from edge_node.gate import EXPOSURE, Gate, GateMode, is_dark
from edge_node.local_enhancer import LocalEnhancer

DARK = np.asarray(dark_sign("EXIT 12"))
BRIGHT = (DARK * 12.0).clip(0, 255).astype(np.uint8)
DOOR = Area(0.5, 0.5, 0.25, 0.25)


def raw(rgb: np.ndarray) -> RawImage:
    return RawImage.from_rgb(np.ascontiguousarray(rgb))


def take(gate: Gate, rgb: np.ndarray) -> tuple[bool, bool]:
    verdict = gate.judge(raw(rgb))
    gate.take(verdict)
    return verdict.light, verdict.essential


def test_dark_frames_are_lit_and_bright_ones_are_not() -> None:
    gate = Gate()
    assert [take(gate, rgb)[0] for rgb in (DARK, BRIGHT, DARK)] == [True, False, True]
    assert gate.counts == {"dark": 2, "bright": 1}


def test_off_lights_everything() -> None:
    gate = Gate(GateMode.OFF)
    assert take(gate, BRIGHT) == (True, False) and gate.counts == {"gate off": 1}


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_frames(level: int) -> None:
    assert is_dark(raw(np.full((30, 40, 3), level, np.uint8))) == (level == 0)


def test_it_aims_where_the_enhancer_aims() -> None:
    enhancer = LocalEnhancer()
    assert enhancer._exposure == EXPOSURE
    assert np.array_equal(enhancer.enhance(BRIGHT), BRIGHT), "what it keeps home would have come back as it was"


def test_real_photographs(shared_data) -> None:
    plates = shared_data / "plates_ro"
    rows = [line.split(",") for line in (plates / "luminance.csv").read_text().splitlines()[1:]]
    by_day = [row[0] for row in rows if row[-1] == "0"][::16]
    assert len(by_day) > 5 and not any(
        is_dark(raw(np.asarray(Image.open(plates / "images" / name)))) for name in by_day
    )
    for path in sorted((shared_data / "dicm").glob("*.jpg"))[:8]:
        deep = (np.asarray(Image.open(path).convert("RGB")) // 6).astype(np.uint8)
        assert is_dark(raw(deep)), path.name


def test_a_change_in_an_essential_part_makes_a_frame_essential() -> None:
    gate, someone, elsewhere = Gate(areas=(DOOR,)), DARK.copy(), DARK.copy()
    someone[220:260, 320:360] += 25
    elsewhere[20:60, 20:60] += 25
    seen = [take(gate, rgb)[1] for rgb in (DARK, DARK, elsewhere, someone, someone, DARK)]
    assert seen == [True, False, False, True, False, True]


def test_a_frame_that_was_judged_and_not_taken_counts_for_nothing() -> None:
    gate, someone = Gate(areas=(DOOR,)), DARK.copy()
    someone[220:260, 320:360] += 25
    take(gate, DARK)
    assert gate.judge(raw(someone)).essential
    assert gate.judge(raw(someone)).essential, "the next one must still show it"
    assert sum(gate.counts.values()) == 1


def test_text_that_was_read_there_keeps_frames_essential() -> None:
    gate = Gate(GateMode.OFF, (DOOR,))
    take(gate, DARK)
    assert not gate.judge(raw(DARK)).essential
    gate.read([Region(((310, 210), (390, 210), (390, 240), (310, 240)), 0.9)], 600, 400)
    assert gate.judge(raw(DARK)).essential
    gate.read([Region(((10, 10), (90, 10), (90, 40), (10, 40)), 0.9)], 600, 400)
    assert not gate.judge(raw(DARK)).essential


def test_while_something_is_watched_every_frame_is_essential() -> None:
    for gate in (Gate(), Gate(GateMode.OFF), Gate(areas=(DOOR,))):
        take(gate, DARK)
        gate.watch("a", DOOR)
        gate.watch("b", DOOR)
        gate.unwatch("a")
        assert [take(gate, DARK)[1] for _ in range(2)] == [True, True] and gate.watched == (DOOR,)
        gate.unwatch("b")
        gate.unwatch("c")
        assert take(gate, DARK)[1] is False and gate.watched == ()
