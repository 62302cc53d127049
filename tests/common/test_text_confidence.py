import pytest

from common.text_confidence import FEATURES, WEIGHTS, confidence, features


def test_nothing_read_is_nothing_known() -> None:
    assert confidence([], 100, 20) == 0.0


def test_it_is_a_likelihood_whatever_comes() -> None:
    for letters in ([0.0], [1.0], [1.0] * 300, [1e-30] * 300):
        for length, height in ((0.0, 0.0), (1e6, 1.0), (3.0, 1e6)):
            assert 0.0 <= confidence(letters, length, height) <= 1.0


@pytest.mark.parametrize(
    ("surer", "less"),
    [
        (([0.99] * 6, 80, 24), ([0.6] * 6, 80, 24)),
        (([0.99] * 6, 80, 24), ([0.99] * 5 + [0.3], 80, 24)),  # one doubtful letter makes the text doubtful
        (([0.97] * 6, 80, 24), ([0.97] * 6, 27, 8)),  # small text
        (([0.97] * 6, 80, 24), ([0.97] * 2, 300, 24)),  # two letters do not fill a long line
    ],
)
def test_what_makes_text_doubtful(surer: tuple[list[float], int, int], less: tuple[list[float], int, int]) -> None:
    assert confidence(*surer) > confidence(*less) + 0.02


def test_every_feature_has_its_weight() -> None:
    assert len(FEATURES) == len(WEIGHTS) == len(features([0.9], 10, 10))
