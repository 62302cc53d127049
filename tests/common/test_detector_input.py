import pytest

from common.detector_input import network_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((400, 600), (736, 1088)),
        ((1080, 1920), (1088, 1920)),
        ((4320, 7680), (1152, 2048)),
        ((8, 8), (736, 736)),
        ((2, 9000), (32, 2048)),
    ],
)
def test_network_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert network_size(*size, 736, 2048) == expected
