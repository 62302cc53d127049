"""The exported network, run as the edge runs it, against the network in torch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cloud_node.laegan import create
from cloud_node.laegan.network import LAEGAN
from cloud_node.training.export import export
from edge_node.local_enhancer import LocalEnhancer, solve_curve


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


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("light", [2, 20, 120, 255])
def test_both_solve_the_same_curve(light: int, even: bool) -> None:
    from cloud_node.laegan.network import solve_curve as in_torch

    frame = (np.random.default_rng(light).random((120, 180, 3)) ** 2 * light).astype(np.uint8)
    if not even:
        frame[:, 90:] //= 4
    torch_frame = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255
    assert solve_curve(frame, 0.45) == pytest.approx(in_torch(torch_frame, 0.45).item(), abs=2e-4)


def test_the_file_says_what_it_is_and_not_where_it_was_made(exported: Path) -> None:
    assert LocalEnhancer(exported).model == "edge-7"
    graph = onnx.load(exported).graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    assert str(Path(__file__).resolve().parents[3]).encode() not in exported.read_bytes()


def test_networks_that_cannot_be_exported_are_refused(tmp_path: Path) -> None:
    for preset in ("paper", "zero-dce"):
        with pytest.raises(ValueError, match="solved curve and a body"):
            export(create(preset), tmp_path / "no.onnx", "no-0")
