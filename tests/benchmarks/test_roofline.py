import pytest
import torch
from torch import nn

from benchmarks.roofline import Load, Speed, load_of, speed_of
from cloud_node.evaluation.complexity import gmacs
from cloud_node.laegan import create


def test_operations_and_bytes_of_known_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    load = load_of(network, 600, 400, sample_bytes=2)
    assert load.operations == pytest.approx(2 * 600 * 400 * (3 * 8 * 9 + 8 * 3))
    assert load.bytes == pytest.approx(2 * 600 * 400 * (3 + 8 + 8 + 3))


@pytest.mark.parametrize("preset", ["fast", "edge"])
def test_operations_of_presets_are_those_of_the_evaluation(preset: str) -> None:
    network = create(preset).eval()
    assert load_of(network, 600, 400, 2).operations / 2e9 == pytest.approx(gmacs(network, 600, 400), rel=0.03)


def test_the_slower_of_operations_and_bytes_counts() -> None:
    assert Speed(100.0, 10.0).seconds(Load(100.0, 5.0)) == 1.0
    assert Speed(100.0, 10.0).seconds(Load(100.0, 50.0)) == 5.0


def test_a_device_has_a_speed() -> None:
    speed = speed_of(torch.device("cpu"), torch.float32)
    assert 1e8 < speed.operations < 1e15 and 1e8 < speed.bytes < 1e14
