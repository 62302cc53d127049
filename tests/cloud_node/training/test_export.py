"""The exported network, run as the edge runs it, against the network in torch."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cloud_node.laegan import create, load, weights_version
from cloud_node.laegan import save as write_weights
from cloud_node.laegan.network import LAEGAN
from cloud_node.training.export import ExportError, export, main
from edge_node.local_enhancer import LocalEnhancer
from edge_node.solved_curve import KNEE, KNEE_LAMPS, SLIGHT, exposure_level, solve_curve


@pytest.fixture(scope="module")
def network() -> LAEGAN:
    torch.manual_seed(0)
    model = create("edge").eval()
    torch.nn.init.normal_(model.body.head.weight, std=0.05)
    return model


@pytest.fixture(scope="module")
def exported(network: LAEGAN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "edge.onnx"
    export(network, path, "edge-7")
    return path


def dark(height: int, width: int) -> np.ndarray:
    return (np.random.default_rng(height).random((height, width, 3)) ** 2 * 60).astype(np.uint8)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (100, 150)])
def test_the_edge_sees_what_the_cloud_would(network: LAEGAN, exported: Path, size: tuple[int, int]) -> None:
    frame = dark(*size)
    with torch.inference_mode():
        cloud = network(torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255)
    cloud = (cloud[0].movedim(0, -1) * 255).round().numpy()
    edge = LocalEnhancer(exported).enhance(frame)
    assert edge.shape == frame.shape and edge.dtype == np.uint8
    assert np.abs(edge - cloud).max() <= 1
    assert edge.mean() > 3 * frame.mean()


@pytest.mark.parametrize("size", [(33, 47), (200, 300)])
def test_both_see_lamps_alike(network: LAEGAN, exported: Path, size: tuple[int, int]) -> None:
    frame = dark(*size)
    rows, columns = size
    frame[: rows // 6, : columns // 5] = 250
    frame[rows * 3 // 4 :, columns * 3 // 4 :] += 100
    with torch.inference_mode():
        low = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255
        cloud, alpha = (network(low)[0].movedim(0, -1) * 255).round().numpy(), network.curve(low)
    assert alpha.max() > 2 * alpha.min()
    assert np.abs(LocalEnhancer(exported).enhance(frame) - cloud).max() <= 1


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("light", [2, 20, 120, 255])
def test_both_solve_the_same_curve(light: int, even: bool) -> None:
    from cloud_node.laegan.curve import solve_curve as in_torch

    frame = (np.random.default_rng(light).random((120, 180, 3)) ** 2 * light).astype(np.uint8)
    if not even:
        frame[:, 90:] //= 4
        frame[:4, :60] = 250
    torch_frame = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255
    assert solve_curve(frame, 0.45) == pytest.approx(in_torch(torch_frame, 0.45).item(), abs=2e-4)


@pytest.mark.parametrize("bends", ["slight", "bright"])
def test_both_bend_alike(bends: str) -> None:
    from cloud_node.laegan.curve import exposure_level as level_in_torch
    from cloud_node.laegan.curve import solve_curve as in_torch

    frame = (np.random.default_rng(5).random((96, 144, 3)) ** 2 * (130 if bends == "slight" else 40)).astype(np.uint8)
    frame[:, 72:] //= 4
    if bends == "bright":
        frame[:14:2, 0] = 250  # 7 of 48 x 72 that are looked at: 0.2 %
    low = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255
    view, low_view = frame[::2, ::2], low[..., ::2, ::2]
    level, knee = exposure_level(view, 0.45)
    assert (level, knee) == pytest.approx([each.item() for each in level_in_torch(low_view, 0.45)], abs=2e-5)
    if bends == "bright":
        assert KNEE_LAMPS + 0.05 < knee < KNEE - 0.05
    else:
        level = 0.137  # a curve of 0.045, which is halved
        assert SLIGHT / 2 < solve_curve(frame, level) < SLIGHT
    assert solve_curve(frame, level) == pytest.approx(in_torch(low, level).item(), abs=2e-4)


def test_the_file_says_what_it_is_and_not_where_it_was_made(exported: Path) -> None:
    assert LocalEnhancer(exported).model == "edge-7"
    graph = onnx.load(exported).graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    assert str(Path(__file__).resolve().parents[3]).encode() not in exported.read_bytes()


def test_an_export_that_breaks_off_leaves_the_old_file(
    network: LAEGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    path = tmp_path / "edge.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(OSError, match="no space"):
        export(network, path, "edge-8")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_what_export_needs_is_told(
    package: str, network: LAEGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = tmp_path / "edge.safetensors", tmp_path / "edge.onnx"
    write_weights(network, "edge", weights, version="edge-7", steps=1)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"needs onnx and onnxscript .*{package}.*pip install 'lamplight\[train\]'"):
        export(network, out, "edge-7")
    assert main(["--weights", str(weights), "--out", str(out)]) == 1
    assert capsys.readouterr().err.startswith("error: export needs onnx") and not out.exists()


def test_networks_that_cannot_be_exported_are_refused(tmp_path: Path) -> None:
    for preset in ("paper", "zero-dce"):
        with pytest.raises(ValueError, match="solved curve and a body"):
            export(create(preset), tmp_path / "no.onnx", "no-0")


def test_the_committed_file_is_the_committed_network() -> None:
    frame = dark(64, 96)
    assert LocalEnhancer().model == weights_version("edge")
    with torch.inference_mode():
        cloud = load("edge")(torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255)
    assert np.abs(LocalEnhancer().enhance(frame) - (cloud[0].movedim(0, -1) * 255).round().numpy()).max() <= 1
