import numpy as np
import pytest
import torch

from cloud_node.backends import Nothing, light
from cloud_node.color import Form
from cloud_node.lanes import SHAPES, Direct, Staged
from common.pixels import PixelFormat, RawImage

CPU = torch.device("cpu")


def step(raw: torch.Tensor, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
    return light(Nothing(), raw, form)


def grey(level: int, width: int = 12, height: int = 8) -> RawImage:
    return RawImage(np.full(width * height, level, np.uint8), width, height, PixelFormat.GRAY8)


@pytest.mark.parametrize("frames", [1, 3])
def test_both_lanes_give_the_same(frames: int) -> None:
    images = [RawImage.from_rgb(np.random.default_rng(i).integers(0, 256, (9, 7, 3), np.uint8)) for i in range(frames)]
    form = Form.of(images[0])
    (rgb, measures), (same, expected) = (lanes(CPU).start(step, images, form)() for lanes in (Direct, Staged))
    assert np.array_equal(rgb, same) and np.array_equal(measures, expected)
    assert [np.array_equal(one.reshape(-1), image.data) for one, image in zip(rgb, images, strict=True)] == [
        True
    ] * frames


def test_a_batch_keeps_its_buffers_until_its_output_was_taken() -> None:
    staged = Staged(CPU)
    seen = []

    def watching(raw: torch.Tensor, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(raw.data_ptr())
        return step(raw, form)

    form = Form.of(grey(0))
    first, second = (staged.start(watching, [grey(level)], form) for level in (1, 2))
    one, _ = first()
    third = staged.start(watching, [grey(3)], form)
    two, three = second()[0], third()[0]
    assert [int(lit.min()) for lit in (one, two, three)] == [int(lit.max()) for lit in (one, two, three)] == [1, 2, 3]
    assert seen[0] != seen[1] and seen[2] == seen[0]


def test_what_a_step_gives_may_be_overwritten_by_the_next() -> None:
    """As a CUDA graph does."""
    staged, form = Staged(CPU), Form.of(grey(0))
    rgb, measures = step(torch.from_numpy(grey(0).data)[None], form)

    def static(raw: torch.Tensor, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
        for kept, new in zip((rgb, measures), step(raw, form), strict=True):
            kept.copy_(new)
        return rgb, measures

    first, second = (staged.start(static, [grey(level)], form) for level in (5, 6))
    assert (first()[0].max(), second()[0].max()) == (5, 6)


def test_buffers_are_kept_for_the_shapes_that_came_last() -> None:
    staged = Staged(CPU)
    for width in range(3, 3 + 2 * SHAPES):
        for _ in range(2):
            lit, _ = staged.start(step, [grey(width, width)], Form.of(grey(0, width)))()
            assert lit.shape == (1, 8, width, 3) and lit.max() == width
    kept = [form.width for (_, _, form), free in staged._free.items() if len(free) == 1]
    assert kept == list(range(3 + SHAPES, 3 + 2 * SHAPES))


def test_a_step_that_fails_leaves_the_lanes_usable() -> None:
    staged, form = Staged(CPU), Form.of(grey(0))

    def failing(raw: torch.Tensor, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        staged.start(failing, [grey(1)], form)
    assert staged.start(step, [grey(2)], form)()[0].max() == 2
