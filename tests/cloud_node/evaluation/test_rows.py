from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from cloud_node.evaluation import rows
from cloud_node.evaluation.rows import Machine, ablation_rows, baselines, network_row, onnx_rows, preset_rows, published
from cloud_node.evaluation.zerodce import zero_dce, zero_dce_pp
from cloud_node.laegan import create, save
from common.errors import SettingsError, WeightsError

MACHINE = Machine()


@pytest.fixture
def dark() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60, (37, 50, 3), dtype=np.uint8)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "fast.safetensors"
    save(create("fast"), "fast", path, "fast-0", 0)
    return path


def onnx_file(path: Path, nodes: list[onnx.NodeProto], sides: tuple[str | int, str | int] = ("h", "w")) -> Path:
    """A network from 'x' (1, 3, H, W) to 'y', with a constant 'two' and a scale 'half'."""
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *sides]) for name in ("x", "y")]
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("up", TensorProto.FLOAT, [4], [1, 1, 2, 2]),
    ]
    graph = helper.make_graph(nodes, "network", shapes[:1], shapes[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_zero_dce_has_the_published_size_and_range(dark: np.ndarray) -> None:
    for model, size in ((zero_dce(), 79_416), (zero_dce_pp(), 10_561)):
        assert sum(p.numel() for p in model.parameters()) == size
        out = network_row("x", model, MACHINE).apply(dark)
        assert out.shape == dark.shape and out.dtype == np.uint8


def test_the_curve_keeps_black_and_white() -> None:
    ends = torch.cat([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)])
    with torch.inference_mode():
        torch.testing.assert_close(zero_dce()(ends), ends)


def test_the_released_weights_light_a_photograph_up(shared_data: Path, dark: np.ndarray) -> None:
    folder = shared_data / "weights"
    found = published(folder / "zerodce" / "Epoch99.pth", folder / "zerodcepp" / "Epoch99.pth", MACHINE, print)
    assert [row.name for row in found] == ["Zero-DCE", "Zero-DCE++"]
    for row in found:
        assert not row.ours and row.network is not None
        assert row.apply(dark).mean() > 2 * dark.mean()


def test_published_networks_without_their_files_are_left_out_with_a_word() -> None:
    words: list[str] = []
    assert published(None, None, MACHINE, words.append) == []
    assert "--zerodce FILE" in words[0] and "--zerodcepp FILE" in words[1]


def test_weights_of_another_network_are_named(shared_data: Path) -> None:
    with pytest.raises(WeightsError, match=r"Epoch99\.pth holds no weights of this network"):
        published(shared_data / "weights" / "zerodcepp" / "Epoch99.pth", None, MACHINE, print)


def test_presets_come_with_their_first_stage(weights: Path, dark: np.ndarray) -> None:
    found = preset_rows([f"mine=fast:{weights}"], MACHINE, lambda _: None)
    assert [row.name for row in found] == ["mine, first stage", "mine"]
    assert all(row.ours for row in found) and found[0].network is None and found[1].network is not None
    for row in found:
        assert row.apply(dark).shape == dark.shape


def test_a_preset_without_committed_weights_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_node.laegan.weights_files.COMMITTED", tmp_path)
    words: list[str] = []
    assert preset_rows([], MACHINE, words.append) == []
    assert len(words) == len(rows.PRESETS) and "'fast'" in " ".join(words)


@pytest.mark.parametrize("text", ["fast", "x=", "=fast", "x=huge"])
def test_a_row_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--row"):
        preset_rows([text], MACHINE, lambda _: None)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gone"):
        preset_rows([f"x=fast:{tmp_path / 'gone.safetensors'}"], MACHINE, lambda _: None)


def test_ablations_begin_with_the_full_network(weights: Path) -> None:
    folder = weights.parent
    weights.rename(folder / "base.safetensors")
    save(create("fast"), "fast", folder / "no-etam.safetensors", "fast-0", 0)
    save(create("fast"), "fast", folder / "edge-off.safetensors", "fast-0", 0)
    found = ablation_rows(folder, MACHINE)
    assert [row.name for row in found] == ["ablation: base", "ablation: edge-off", "ablation: no-etam"]
    assert all(row.ablation for row in found)
    assert ablation_rows(None, MACHINE) == []


def test_broken_ablations_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no .safetensors"):
        ablation_rows(tmp_path, MACHINE)
    (tmp_path / "no-edge.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"no-edge\.safetensors"):
        ablation_rows(tmp_path, MACHINE)


def test_an_onnx_network_is_a_row(tmp_path: Path, dark: np.ndarray) -> None:
    path = onnx_file(tmp_path / "double.onnx", [helper.make_node("Mul", ["x", "two"], ["y"])])
    [row] = onnx_rows([f"double={path}"], 1)
    np.testing.assert_array_equal(row.apply(dark), dark * 2)
    assert row.name == "double" and row.forward is not None
    torch.testing.assert_close(row.forward(torch.full((1, 3, 4, 4), 0.25)), torch.full((1, 3, 4, 4), 0.5))


def test_an_onnx_network_that_wants_even_sides_gets_them(tmp_path: Path, dark: np.ndarray) -> None:
    nodes = [
        helper.make_node("AveragePool", ["x"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["small", "", "up"], ["large"], mode="nearest"),
        helper.make_node("Add", ["x", "large"], ["y"]),  # fails where the sides are odd
    ]
    [row] = onnx_rows([f"pooled={onnx_file(tmp_path / 'pooled.onnx', nodes)}"], 1)
    out = row.apply(dark)
    assert out.shape == dark.shape
    expected = dark[:2, :2].astype(float) + dark[:2, :2].mean(axis=(0, 1))
    np.testing.assert_allclose(out[:2, :2], expected, atol=0.6)


def test_onnx_files_that_cannot_be_rows_are_named(tmp_path: Path, dark: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="NAME=FILE"):
        onnx_rows(["iat.onnx"], 1)
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        onnx_rows([f"x={tmp_path / 'broken.onnx'}"], 1)
    fixed = onnx_file(tmp_path / "fixed.onnx", [helper.make_node("Mul", ["x", "two"], ["y"])], (64, 64))
    with pytest.raises(WeightsError, match="dynamic height and width"):
        onnx_rows([f"x={fixed}"], 1)
    pooled = onnx_file(tmp_path / "pool.onnx", [helper.make_node("GlobalAveragePool", ["x"], ["y"])])
    [row] = onnx_rows([f"x={pooled}"], 1)
    with pytest.raises(WeightsError, match="no output like the input"):
        row.apply(dark)


def test_an_unknown_baseline_is_refused() -> None:
    assert [row.name for row in baselines(["raw", "CLAHE"])] == ["raw", "CLAHE"]
    with pytest.raises(SettingsError, match="'clahe'"):
        baselines(["clahe"])


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (40, 7)])
def test_pictures_below_what_a_network_needs_keep_their_size(size: tuple[int, int], weights: Path) -> None:
    dark = np.random.default_rng(0).integers(0, 60, (*size, 3), dtype=np.uint8)
    stage, full = preset_rows([f"mine=fast:{weights}"], MACHINE, lambda _: None)
    for row in (stage, full, network_row("x", zero_dce_pp(), MACHINE)):
        assert row.apply(dark).shape == dark.shape
    bottom, right = (max(0, 16 - side) for side in size)
    padded = np.pad(dark, ((0, bottom), (0, right), (0, 0)), mode="edge")
    np.testing.assert_array_equal(full.apply(dark), full.apply(padded)[: size[0], : size[1]])
