import cv2
import numpy as np
import pytest

from cloud_node.evaluation.cases import FIDELITY, MIXED_LIGHT, Case, CaseSet, Picture
from cloud_node.evaluation.measure import Instruments, Records, measure
from cloud_node.evaluation.rows import Row
from common.errors import LamplightError, WeightsError
from common.pixels import Bytes
from common.text_detection import TextDetector


class Blind(TextDetector):
    """Finds nothing: no set here has text."""

    def detect(self, rgb: Bytes) -> tuple[()]:
        return ()


def pair(side: int = 24) -> Picture:
    bright = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Picture(bright // 4, bright)


def run(
    row: Row, *pictures: Picture, measures: tuple[str, ...] = (FIDELITY,), done: list[list[str]] | None = None
) -> Records:
    sets = [CaseSet(f"set {i}", "", measures, [Case("a.jpg", lambda one=one: one)]) for i, one in enumerate(pictures)]

    def keep_names(records: Records) -> None:
        if done is not None:
            done.append(list(records))

    return measure(sets, [row], Instruments(Blind()), lambda *_: None, keep_names)


def test_the_figures_so_far_are_handed_over_after_every_set() -> None:
    done: list[list[str]] = []
    records = run(Row("x", lambda rgb: rgb), pair(), pair(), done=done)
    assert done == [["set 0"], ["set 0", "set 1"]]
    assert records["set 1"]["x"]["a.jpg"]["psnr"] > 5


@pytest.mark.parametrize(
    "error", [ValueError("wrong\nlines"), RuntimeError("wrong"), cv2.error("wrong"), np.linalg.LinAlgError("wrong")]
)
def test_a_row_that_fails_is_named_with_its_picture(error: Exception) -> None:
    def fail(rgb: Bytes) -> Bytes:
        raise error

    with pytest.raises(LamplightError, match=r"row 'broken' failed on a\.jpg: wrong;") as caught:
        run(Row("broken", fail), pair())
    assert caught.value.__cause__ is error


def test_an_output_of_another_shape_is_named() -> None:
    with pytest.raises(LamplightError, match=r"row 'half' failed on a\.jpg: it made \(12, 24, 3\)"):
        run(Row("half", lambda rgb: rgb[::2]), pair())


def test_a_picture_too_small_for_a_figure_is_named() -> None:
    with pytest.raises(LamplightError, match=r"row 'x' failed on a\.jpg: SSIM needs images of 11x11"):
        run(Row("x", lambda rgb: rgb), pair(10))


def test_an_error_that_says_what_to_do_stays_what_it_is() -> None:
    def fail(rgb: Bytes) -> Bytes:
        raise WeightsError("x.onnx: no output like the input")

    with pytest.raises(WeightsError, match=r"^x\.onnx"):
        run(Row("x", fail), pair())


def test_figures_that_are_no_numbers_are_left_out() -> None:
    [figures] = run(Row("x", lambda rgb: rgb), pair(), measures=(MIXED_LIGHT,))["set 0"]["x"].values()
    assert figures == {}
