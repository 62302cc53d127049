from pathlib import Path

import numpy as np
import pytest

from common.banded_network import BAND, BandedNetwork
from common.onnx_models import lean_session, wheel_model
from common.onnx_split import halves
from common.text_detection import _blob


def whole(model: Path, image: np.ndarray) -> np.ndarray:
    session = lean_session(model, 1)
    return session.run(None, {session.get_inputs()[0].name: _blob(image)})[0][0, 0]


@pytest.fixture(scope="module")
def detector() -> Path:
    return wheel_model("det", "this test")


@pytest.mark.parametrize("height", [32, BAND - 32, BAND, BAND + 32, 2 * BAND + 64])
def test_bands_give_what_the_whole_gives(detector: Path, height: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, 96, 3), dtype=np.uint8)
    banded = BandedNetwork(detector, 1)
    assert banded._body is not None
    made = banded.run(image, _blob)
    assert np.array_equal(made, whole(detector, image)) and np.ptp(made) > 0


def test_a_reach_that_is_too_short_would_be_seen(detector: Path) -> None:
    """The seam's reach is needed: without it the rows beside the bands' edges differ."""
    image = np.random.default_rng(0).integers(0, 256, (BAND + 32, 96, 3), dtype=np.uint8)
    banded = BandedNetwork(detector, 1)
    assert 8 <= banded._reach <= 16
    banded._reach = 0
    assert not np.array_equal(banded.run(image, _blob), whole(detector, image))


def test_each_part_has_its_own_weights_alone(detector: Path) -> None:
    content = detector.read_bytes()
    parts = halves(content)
    assert parts is not None
    assert len(parts.stem) < len(content) / 20
    assert len(parts.stem) + len(parts.body) < len(content) * 1.01


def test_a_network_without_such_a_place_runs_whole(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, None])  # noqa: E731
    nodes = [onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)]
    graph = onnx.helper.make_graph(nodes, "mean", [tensor("x")], [tensor("y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "mean.onnx")
    assert halves((tmp_path / "mean.onnx").read_bytes()) is None
    image = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    made = BandedNetwork(tmp_path / "mean.onnx", 1).run(image, _blob)
    assert np.allclose(made, _blob(image).mean(axis=1)[0], atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", bytes(100), b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_network_has_no_halves(content: bytes) -> None:
    assert halves(content) is None


def test_a_file_cut_short_has_no_halves_or_whole_ones(detector: Path) -> None:
    content = detector.read_bytes()[:200_000]
    for length in range(0, len(content), 7_919):
        halves(content[:length])
