from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cloud_node.laegan import PRESETS, WeightsError
from cloud_node.laegan.network import LAEGAN
from cloud_node.laegan.weights_files import save
from cloud_node.training.widening import begin

NARROW = replace(PRESETS["fast"], width=8)


def network(width: int, **changed: object) -> LAEGAN:
    torch.manual_seed(width)
    model = LAEGAN(replace(NARROW, width=width, **changed))  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * parameter[0].numel() ** -0.5
    return model.eval()


def test_a_wider_network_starts_with_the_same_pictures_and_can_learn(tmp_path: Path) -> None:
    narrow, wide = network(8), network(12)
    frame = torch.rand(1, 3, 48, 64) * 0.2
    save(narrow, "fast", tmp_path / "narrow.safetensors", "test-1", 1)
    assert not torch.allclose(wide(frame), narrow(frame), atol=0.05)
    begin(narrow, "fast", tmp_path / "narrow.safetensors")  # as stored, in half precision
    begin(wide, "fast", tmp_path / "narrow.safetensors")
    assert torch.allclose(wide(frame), narrow(frame), atol=1e-5)
    wide.train()(frame).sum().backward()
    head = wide.body.head.weight.grad  # type: ignore[union-attr]
    assert head[:, 8:].abs().max() > 0


def test_what_differs_in_more_than_width_is_refused(tmp_path: Path) -> None:
    for name, other in (("deeper", network(8, levels=5)), ("wider", network(12)), ("srb", network(8, block="srb"))):
        save(other, "fast", tmp_path / f"{name}.safetensors", "test-1", 1)
        with pytest.raises(WeightsError, match=f"{name}.safetensors does not fit the network"):
            begin(network(8), "fast", tmp_path / f"{name}.safetensors")
