import numpy as np
import pytest
import torch

from cloud_node.training.images import DataError
from cloud_node.training.pools import Photo, Pool
from cloud_node.training.samples import Sampling
from cloud_node.training.unpaired import Pairs, Unpaired, Whole, halves

SAMPLING = Sampling(batch=3, crop=64, seed=5)


def flat(*colour: int) -> Photo:
    """A photograph of one colour, which stays recognisable however it is cropped."""
    return Photo(np.full((80, 96, 3), colour, np.uint8))


RED, BLUE = flat(230, 40, 40), flat(40, 40, 230)


def test_halves_share_no_scene() -> None:
    drive = Pool("plates_ro", 0.4, [flat(i, i, i) for i in range(5)])
    signs = Pool("scene_text", 0.6, [flat(i, i, i) for i in range(5, 10)])
    first, second = ([[int(p.rgb[0, 0, 0]) for p in pool.photos] for pool in half] for half in halves([drive, signs]))
    assert first == [[0, 1, 2], [5, 7, 9]] and second == [[3, 4], [6, 8]]
    assert [pool.share for pool in halves([drive, signs])[0]] == [0.4, 0.6]
    with pytest.raises(DataError, match="one photograph cannot be both"):
        halves([Pool("photographs", 1.0, [RED])])


def test_real_frames_beside_pairs_are_of_other_photographs() -> None:
    pairs = Pairs([Pool("plates_ro", 1.0, [RED, BLUE])], SAMPLING, opposed=True)
    for step in range(4):
        batch = pairs[step]
        assert batch.clean is not None and batch.real is not None
        red_pairs = (batch.clean[:, 0].mean(dim=(1, 2)) > batch.clean[:, 2].mean(dim=(1, 2))).tolist()
        red_reals = (batch.real[:, 0].mean(dim=(1, 2)) > batch.real[:, 2].mean(dim=(1, 2))).tolist()
        assert red_pairs == [step % 2 == 0] * 3 and red_reals == [step % 2 == 1] * 3


def test_plain_pairs_have_no_real_frames() -> None:
    pools = [Pool("plates_ro", 1.0, [RED, BLUE])]
    batch = Pairs(pools, SAMPLING)[0]
    assert batch.real is None and batch.first(2).low.shape == (2, 3, 64, 64)
    assert torch.equal(batch.low, Pairs(pools, SAMPLING)[0].low)


def test_low_and_normal_folders_are_taken_as_they_are() -> None:
    data = Unpaired([Pool("low", 1.0, [flat(9, 9, 9)])], [], [Pool("normal", 1.0, [RED])], SAMPLING)
    batch = data[0]
    assert batch.clean is None and batch.text is None and batch.real is not None
    torch.testing.assert_close(batch.low, torch.full((3, 3, 64, 64), 9 / 255))
    assert torch.equal(batch.real, torch.tensor([230, 40, 40]).view(1, 3, 1, 1).expand(3, 3, 64, 64) / 255)
    assert torch.equal(data[7].low, data[7].low)


def test_low_light_is_made_where_there_is_too_little() -> None:
    data = Unpaired([Pool("low", 1.0, [flat(9, 9, 9)])], [Pool("a", 1.0, [RED])], [Pool("b", 1.0, [BLUE])], SAMPLING)
    really_dark = [bool((frame == np.float32(9 / 255)).all()) for step in range(8) for frame in data[step].low]
    assert 6 <= sum(really_dark) <= 18


def test_the_curve_learns_from_whole_frames_of_what_is_given() -> None:
    real = Whole([], [Pool("low", 1.0, [flat(9, 9, 9)])], SAMPLING)[0]
    assert real.low.shape == (3, 3, 64, 64) and torch.all(real.low == np.float32(9 / 255))
    assert Whole([Pool("a", 1.0, [RED])], [], SAMPLING)[0].low.shape == (3, 3, 64, 64)
