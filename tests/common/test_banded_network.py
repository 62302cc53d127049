import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common import banded_network, onnx_models
from common.banded_network import BAND, BandedNetwork
from common.errors import WeightsError
from common.onnx_models import lean_session, wheel_model
from common.onnx_split import halves
from common.text_detection import _blob


def whole(model: Path, image: np.ndarray) -> np.ndarray:
    session = lean_session(model, 1)
    return session.run(None, {session.get_inputs()[0].name: _blob(image)})[0][0, 0]


@pytest.fixture(scope="module")
def detector() -> Path:
    return wheel_model("det", "this test")


@pytest.mark.parametrize(
    ("height", "width"),
    [(32, 96), (BAND - 32, 96), (BAND, 96), (BAND + 32, 96), (2 * BAND + 64, 96), (2 * BAND + 96, 864)],
)
def test_bands_give_what_the_whole_gives(detector: Path, height: int, width: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    banded = BandedNetwork(detector, 1)
    assert banded._seam
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


def saved(path: Path, nodes: list, outputs: list[str], weights: dict[str, np.ndarray]) -> Path:
    onnx = pytest.importorskip("onnx")
    tensor = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, None])  # noqa: E731
    made = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "net", [tensor("x")], [tensor(name) for name in outputs], made)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def small(path: Path, *, second: dict | None = None, without: str = "", beside: str = "", wide: int = 0) -> Path:
    """Two convolutions that halve the image, one after them, and back to the image's size.

    second: attributes of the second, changed. without: one that it lacks. beside: what else is used after the cut.
    wide: the one width that what comes after the cut takes.
    """
    onnx = pytest.importorskip("onnx")
    node, rng = onnx.helper.make_node, np.random.default_rng(3)
    halving = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    attributes = {name: value for name, value in (halving | (second or {})).items() if name != without}
    weights = {
        name: rng.normal(0, 0.3, (2, inputs, 3, 3)).astype(np.float32)
        for name, inputs in (("w1", 3), ("w2", 2), ("w3", 2))
    }
    weights["roi"], weights["scales"] = np.zeros(0, np.float32), np.array([1, 0.5, 4, 4], np.float32)
    two = np.full(1, 2, np.float32)
    nodes = [node("Conv", ["x", "w1"], ["a"], **halving)]
    if beside == "constant":
        nodes.append(node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(two)))
    elif beside == "identity":
        weights["two"] = two
        nodes.append(node("Identity", ["two"], ["k"]))
    nodes += [
        node("Conv", ["a", "w2"], ["b"], **attributes),
        node("Relu", ["b"], ["c"]),
        node("Conv", ["c", "w3"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    if beside:
        nodes.append(node("Mul", ["d", "k"], ["e"]))
    elif wide:
        weights["wide"] = np.ones((1, 1, 1, wide), np.float32)
        nodes.append(node("Mul", ["d", "wide"], ["e"]))
    nodes.append(node("Resize", ["e" if beside or wide else "d", "roi", "scales"], ["y"]))
    return saved(path, nodes, ["y"], weights)


def test_a_small_network_is_cut(tmp_path: Path) -> None:
    """That the next tests find fault with what is changed, not with the network."""
    found = halves(small(tmp_path / "net.onnx").read_bytes())
    assert found is not None and found.seam == "c" and found.reach == 6


@pytest.mark.parametrize("beside", ["constant", "identity"])
def test_what_is_made_before_the_cut_and_used_after_it(tmp_path: Path, beside: str) -> None:
    """It has no value there: such a network runs whole."""
    path = small(tmp_path / "net.onnx", beside=beside)
    assert halves(path.read_bytes()) is None
    assert same_as_whole(path)


@pytest.mark.parametrize(
    "change",
    [
        {"second": {"dilations": [4, 4], "pads": [4, 4, 4, 4]}},
        {"without": "kernel_shape"},
        {"second": {"strides": [2, 1]}},
        {"second": {"pads": [0, 1, 0, 1]}},
    ],
)
def test_layers_whose_reach_is_not_known_run_whole(tmp_path: Path, change: dict) -> None:
    assert halves(small(tmp_path / "net.onnx", **change).read_bytes()) is None


def test_halves_that_do_not_load_run_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "net.onnx")
    found = halves(path.read_bytes())
    assert found is not None
    monkeypatch.setattr(banded_network, "halves", lambda content: replace(found, body=found.body[:-40]))
    assert not BandedNetwork(path, 1)._seam
    assert same_as_whole(path)


def test_parts_that_do_not_run_run_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = small(tmp_path / "net.onnx"), small(tmp_path / "other.onnx", wide=5)
    monkeypatch.setattr(onnx_models, "faster", lambda content: other.read_bytes())
    image = np.random.default_rng(0).integers(0, 256, (BAND + 64, 64, 3), dtype=np.uint8)
    made_of, parts = banded_network.lean_sessions, list[weakref.ref]()

    def watched(*arguments: object) -> list:
        sessions = made_of(*arguments)
        parts.extend(map(weakref.ref, sessions))
        return sessions

    monkeypatch.setattr(banded_network, "lean_sessions", watched)
    banded = BandedNetwork(path, 1)
    assert banded._seam and len(parts) == 2 and all(part() for part in parts)
    made = [banded.run(image, _blob) for _ in range(2)]
    gc.collect()
    assert not any(part() for part in parts), "they are held beside the one that runs"
    monkeypatch.undo()
    assert all(np.allclose(one, whole(path, image), atol=1e-5) for one in made)
    assert caplog.text.count("does not run as it is rewritten") == 1


def test_a_whole_network_that_never_runs_is_loaded_once_more_and_no_oftener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path / "net.onnx", wide=5)
    found = halves(path.read_bytes())
    assert found is not None
    monkeypatch.setattr(banded_network, "halves", lambda content: replace(found, body=found.body[:-40]))
    banded, image = BandedNetwork(path, 1), np.zeros((BAND, 64, 3), np.uint8)
    read, loaded = Path.read_bytes, list[Path]()
    monkeypatch.setattr(Path, "read_bytes", lambda path: loaded.append(path) or read(path))
    for _ in range(3):
        with pytest.raises(Exception, match="Mul"):
            banded.run(image, _blob)
    assert loaded == [path]


def test_what_is_no_network_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(bytes(100))
    with pytest.raises(WeightsError, match="cannot be read as a network"):
        BandedNetwork(tmp_path / "net.onnx", 1)


def same_as_whole(path: Path) -> bool:
    image = np.random.default_rng(0).integers(0, 256, (BAND + 64, 64, 3), dtype=np.uint8)
    return np.array_equal(BandedNetwork(path, 1).run(image, _blob), whole(path, image))


def test_a_network_without_such_a_place_runs_whole(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = saved(tmp_path / "mean.onnx", [onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])], ["y"], {})
    assert halves(path.read_bytes()) is None
    image = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    assert np.allclose(BandedNetwork(path, 1).run(image, _blob), _blob(image).mean(axis=1)[0], atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", bytes(100), b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_network_has_no_halves(content: bytes) -> None:
    assert halves(content) is None


def test_a_file_cut_short_has_no_halves_or_whole_ones(detector: Path) -> None:
    content = detector.read_bytes()[:200_000]
    for length in range(0, len(content), 7_919):
        assert halves(content[:length]) is None
