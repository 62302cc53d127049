from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloud_node.training.pools import DataError, Photo, Pool, normal_light, read, training_pools
from cloud_node.training.samples import Batches, Sampling, crop, write


def gradient_photo(boxes: tuple[tuple[float, float, float, float], ...] = ()) -> Photo:
    rgb = np.indices((90, 120)).sum(axis=0).astype(np.uint8)
    return Photo(np.repeat(rgb[..., None], 3, axis=2) + np.uint8(40), boxes)


def test_batches_depend_on_seed_and_step_only() -> None:
    pools = [Pool("photographs", 1.0, [gradient_photo()])]
    first, again = (Batches(pools, Sampling(batch=2, crop=64, seed=7)) for _ in range(2))
    again[0]
    for a, b in zip(first[4], again[4], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[4][0], first[5][0])


def test_batch_shapes_and_ranges() -> None:
    batch = Batches([Pool("photographs", 1.0, [gradient_photo()])], Sampling(batch=3, crop=64))[0]
    assert [tuple(part.shape) for part in batch] == [(3, 3, 64, 64), (3, 3, 64, 64), (3, 1, 64, 64)]
    dark, clean, text = batch
    assert all(part.dtype == torch.float32 and part.min() >= 0 for part in batch)
    assert dark.max() <= 1 and clean.max() <= 1 and torch.equal(text, text.round())


def test_lines_are_numbered_and_never_mirrored() -> None:
    words = [((20 * i, 8.0, 20 * i + 12.0, 24.0)) for i in range(4)]
    stairs = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None] * 2, 100, 0).repeat(3, 2)  # brighter to the right
    photo = Photo(stairs, tuple(words))
    batches = Batches([Pool("receipts_sroie", 1.0, [photo])], Sampling(batch=4, crop=64))
    for step in range(4):
        _, clean, text = batches[step]
        for frame, numbers in zip(clean, text[:, 0], strict=True):
            found = [int(n) for n in numbers.unique() if n]
            assert set(found) <= set(range(1, 5))
            if found:
                assert frame[:, :, -1].mean() > frame[:, :, 0].mean()


def test_boxes_follow_the_crop() -> None:
    """A white rectangle stays inside its box at any scale."""
    photo = gradient_photo(((50, 40, 60, 50),))
    photo.rgb[40:50, 50:60] = 255
    seen = 0
    for seed in range(20):
        image, boxes = crop(photo, 64, np.random.default_rng(seed))
        white = np.argwhere(np.asarray(image)[..., 0] > 250)
        if len(white):
            seen += 1
            (left, top, right, bottom), (y, x) = boxes[0], white.mean(axis=0)
            assert left - 1 <= x <= right + 1 and top - 1 <= y <= bottom + 1
    assert seen > 3


def test_written_text_is_where_its_box_says() -> None:
    for seed in range(10):
        image = Image.new("RGB", (96, 96), (90, 90, 90))
        boxes = write(image, np.random.default_rng(seed))
        outside = np.ones((96, 96), bool)
        for left, top, right, bottom in boxes:
            outside[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1] = False
        assert boxes and (np.asarray(image)[outside] == 90).all()


def test_pool_reads_boxes_and_reduces_large_photographs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    Image.new("RGB", (2560, 640)).save(tmp_path / "images" / "a.png")
    (tmp_path / "gt" / "a.txt").write_text("100,50,200,50,200,80,100,80,TEXT, with comma\n")
    photo = read(tmp_path / "images" / "a.png")
    assert photo.rgb.shape == (320, 1280, 3)
    assert photo.boxes == ((50, 25, 100, 40),)


@pytest.mark.parametrize("known", [True, False])
def test_known_pools_or_a_plain_folder(known: bool, tmp_path: Path) -> None:
    folder = tmp_path / "plates_ro" / "images" if known else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gradient_photo().rgb).save(folder / "a.png")
    names = {pool.name for pool in training_pools(tmp_path)}
    assert ("plates_ro" in names) == known


def test_data_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data folder .*absent"):
        training_pools(tmp_path / "absent")
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    with pytest.raises(DataError, match=r"tiny.png is too small.*8x8"):
        training_pools(tmp_path)


def test_targets_are_neutral_and_lit() -> None:
    violet = np.full((40, 40, 3), (60, 40, 80), np.uint8)
    lit = normal_light(violet).reshape(-1, 3).mean(axis=0)
    assert lit.mean() > 0.38 * 255
    assert np.ptp(lit) / lit.mean() < np.ptp([60, 40, 80]) / 60 / 2
    white = np.full((40, 40, 3), 240, np.uint8)
    np.testing.assert_array_equal(normal_light(white), white)
