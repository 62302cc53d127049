from pathlib import Path

import numpy as np
import pytest

from common.east import EAST, GEOMETRY, MEAN, SCORES, decode
from common.errors import ImageError, SettingsError, WeightsError
from common.text_detection import create_detector


def east_maps(
    centre: tuple[float, float], size: tuple[float, float], angle: float, cells: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score and geometry maps of one rectangle as EAST's training would label it, and its corners.

    Each cell measures its distances to the four sides by projecting on the sides' directions.
    """
    rows, columns = np.mgrid[: cells[0], : cells[1]]
    offset = np.stack([4 * columns - centre[0], 4 * rows - centre[1]], axis=-1)
    along, across = np.array([np.cos(angle), -np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    x, y = offset @ along, offset @ across
    half_w, half_h = size[0] / 2, size[1] / 2
    inside = (abs(x) < half_w * 0.7) & (abs(y) < half_h * 0.7)
    geometry = np.stack([y + half_h, half_w - x, half_h - y, x + half_w, np.full(x.shape, angle)])
    corners = [centre + sx * half_w * along + sy * half_h * across for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return inside[None, None].astype(np.float32), geometry[None].astype(np.float32), np.array(corners)


@pytest.mark.parametrize("degrees", [-40, -12.5, 0, 7, 40])
def test_east_decodes_a_rotated_rectangle(degrees: float) -> None:
    scores, geometry, truth = east_maps((150.5, 97.25), (120, 30), np.radians(degrees), (50, 80))
    corners, found = decode(scores, geometry, 0.5)
    assert len(corners) == len(found) == int(scores.sum()) > 20
    assert np.abs(corners - truth).max() < 0.01
    assert truth[1][1] <= truth[0][1] if degrees >= 0 else truth[1][1] > truth[0][1]  # positive: climbs to the right
    along, down = corners[0][1] - corners[0][0], corners[0][3] - corners[0][0]
    assert np.linalg.det([along, down]) > 0  # clockwise, as y grows downwards


def test_east_decodes_like_opencv(east_file: Path) -> None:
    """OpenCV's own decoder on the same graph, whose boxes are cell + (10, 30, 6, 20) pixels at 0.3 radians."""
    import cv2

    rgb = np.zeros((128, 160, 3), np.uint8)
    rgb[64:68, 80:84] = 255
    peer = cv2.dnn.TextDetectionModel_EAST(cv2.dnn.readNet(str(east_file)))
    peer.setConfidenceThreshold(0.5).setNMSThreshold(0.4)
    peer.setInputParams(1.0, (160, 128), MEAN, False)
    outlines, _ = peer.detect(rgb)
    (region,) = EAST(east_file, width=160, height=128).detect(rgb)
    expected = sorted(tuple(map(float, point)) for point in outlines[0])
    np.testing.assert_allclose(sorted(region.polygon), expected, atol=1)  # OpenCV's are whole pixels


def east_onnx(path: Path, geometry: str = GEOMETRY, channels: int = 5) -> Path:
    """A graph with EAST's outputs: text is what is redder than 124 on average over a cell, boxes are constant."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    red, none = np.zeros((1, 3, 1, 1), np.float32), np.zeros((channels, 3, 1, 1), np.float32)
    red[0, 0] = 4
    box = np.array([10, 30, 6, 20, 0.3][:channels], np.float32)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["cells", "red"], ["redness"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["redness"], [SCORES], name=SCORES),
        helper.make_node("Conv", ["cells", "none", "box"], [geometry], name=geometry, kernel_shape=[1, 1]),
    ]
    shapes = {"x": 3, SCORES: 1, geometry: channels}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, depth, f"h{name}", f"w{name}"])
        for name, depth in shapes.items()
    }
    constants = [numpy_helper.from_array(array, name) for array, name in ((red, "red"), (none, "none"), (box, "box"))]
    graph = helper.make_graph(nodes, "east", [values["x"]], [values[SCORES], values[geometry]], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def east_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return east_onnx(tmp_path_factory.mktemp("east") / "east.onnx")


def message(number: int, content: bytes | str | int) -> bytes:
    """One field of a protocol buffer."""

    def varint(value: int) -> bytes:
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def east_pb(path: Path) -> Path:
    """The graph of `east_onnx` as a frozen TensorFlow graph, the format of the published model."""
    floats, whole, last = message(6, 1), message(6, 3), message(2, "NHWC")

    def node(op: str, name: str, *inputs: str, **attributes: bytes) -> bytes:
        pairs = [message(5, message(1, key) + message(2, value)) for key, value in attributes.items()]
        return message(1, b"".join([message(1, name), message(2, op), *(message(3, i) for i in inputs), *pairs]))

    def constant(name: str, array: np.ndarray) -> bytes:
        shape = b"".join(message(2, message(1, side)) for side in array.shape)
        tensor = message(1, 1) + message(2, shape) + message(4, array.astype(np.float32).tobytes())
        return node("Const", name, dtype=floats, value=message(8, tensor))

    def window(side: int) -> bytes:
        return message(1, b"".join(message(3, size) for size in (1, side, side, 1)))

    def conv(name: str, kernel: str) -> bytes:
        return node("Conv2D", name, "cells", kernel, T=floats, strides=window(1), padding=same, data_format=last)

    same = message(2, "SAME")
    graph = [
        node("Placeholder", "input_images", dtype=floats),
        node(
            "AvgPool",
            "cells",
            "input_images",
            T=floats,
            ksize=window(4),
            strides=window(4),
            padding=same,
            data_format=last,
        ),
        constant("red", np.array([4, 0, 0]).reshape(1, 1, 3, 1)),
        conv("redness", "red"),
        node("Sigmoid", SCORES, "redness", T=floats),
        constant("none", np.zeros((1, 1, 3, 4))),
        constant("sides", np.array([10, 30, 6, 20])),
        conv("flat", "none"),
        node("BiasAdd", "distances", "flat", "sides", T=floats, data_format=last),
        constant("nothing", np.zeros((1, 1, 3, 1))),
        constant("turn", np.array([0.3])),
        conv("level", "nothing"),
        node("BiasAdd", "angle", "level", "turn", T=floats, data_format=last),
        node("Const", "axis", dtype=whole, value=message(8, message(1, 3) + message(2, b"") + message(7, 3))),
        node("ConcatV2", GEOMETRY, "distances", "angle", "axis", T=floats, N=message(3, 2), Tidx=whole),
    ]
    path.write_bytes(b"".join(graph))
    return path


def test_east_reads_a_tensorflow_graph(tmp_path: Path, east_file: Path) -> None:
    rgb = np.zeros((128, 160, 3), np.uint8)
    rgb[64:68, 80:84] = rgb[100:104, 20:24] = 255
    expected = EAST(east_file, width=160, height=128).detect(rgb)
    assert len(expected) == 2
    regions = EAST(east_pb(tmp_path / "east.pb"), width=160, height=128).detect(rgb)
    for region, other in zip(regions, expected, strict=True):
        np.testing.assert_allclose(region.polygon, other.polygon, atol=1e-3)


@pytest.mark.parametrize("colour", [(126, 0, 0), (122, 255, 255)])
def test_east_runs_in_opencv(east_file: Path, colour: tuple[int, int, int]) -> None:
    """Only what is redder than the mean is text: channels come as RGB and the mean is taken off."""
    rgb = np.zeros((128, 160, 3), np.uint8)
    rgb[64:68, 80:84] = colour
    regions = create_detector("east", model=east_file, width=160, height=128, threads=1).detect(rgb)
    assert len(regions) == (colour[0] > 124)
    for region in regions:
        along, across = np.array([np.cos(0.3), -np.sin(0.3)]), np.array([np.sin(0.3), np.cos(0.3)])
        sides = [(-20, -10), (30, -10), (30, 6), (-20, 6)]
        truth = [(80, 64) + along * x + across * y for x, y in sides]
        np.testing.assert_allclose(region.polygon, truth, atol=0.01)
        assert region.score > 0.99


def test_east_scales_clips_and_suppresses(east_file: Path) -> None:
    rgb = np.zeros((64, 80, 3), np.uint8)
    rgb[32:34, 8:12] = 255  # two cells beside each other: one box stays
    rgb[20:22, 60:62] = 255
    regions = EAST(east_file, width=160, height=128).detect(rgb)
    assert len(regions) == 2 and regions[0].polygon[0][1] < regions[1].polygon[0][1]
    for region in regions:
        assert all(0 <= x <= 80 and 0 <= y <= 64 for x, y in region.polygon)
    one = EAST(east_file, limit_side=128, max_side=160).detect(rgb)  # finds the same size by itself
    assert one == regions
    assert len(EAST(east_file, width=160, height=128, nms_threshold=0.95).detect(rgb)) == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (1200, 2)])
def test_east_on_tiny_and_thin_images(east_file: Path, size: tuple[int, int]) -> None:
    for region in EAST(east_file, limit_side=64).detect(np.full((*size, 3), 255, np.uint8)):
        assert all(0 <= x <= size[1] and 0 <= y <= size[0] for x, y in region.polygon)


def test_east_wants_an_image(east_file: Path) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        EAST(east_file).detect(np.zeros((32, 32), np.uint8))


@pytest.mark.parametrize("model", [None, "", "nowhere.pb", "."])
def test_east_without_a_model_says_how_to_get_one(model: str | None) -> None:
    with pytest.raises(SettingsError, match=r"frozen_east_text_detection\.pb .* --detector-model FILE"):
        create_detector("east", model=model)


@pytest.mark.parametrize("suffix", ["pb", "onnx", "txt"])
@pytest.mark.parametrize("content", [b"", b"hello", f"{SCORES} {GEOMETRY}".encode()])
def test_east_refuses_a_broken_model(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=f"model.{suffix}"):
        EAST(file).load()


def test_east_refuses_a_model_with_a_wrong_ending(tmp_path: Path, east_file: Path) -> None:
    """OpenCV 5 by itself crashes the process on an ONNX file named .pb."""
    file = tmp_path / "model.pb"
    file.write_bytes(east_file.read_bytes())
    with pytest.raises(WeightsError, match="model.pb"):
        EAST(file).load()


def test_east_refuses_a_cut_off_model(tmp_path: Path, east_file: Path) -> None:
    file = tmp_path / "short.onnx"
    file.write_bytes(east_file.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"short.onnx"):
        EAST(file).detect(np.zeros((32, 32, 3), np.uint8))


def test_east_refuses_another_network(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"no output {GEOMETRY}"):
        EAST(east_onnx(tmp_path / "other.onnx", geometry="boxes")).load()
    with pytest.raises(WeightsError, match="no EAST with rotated boxes"):
        EAST(east_onnx(tmp_path / "four.onnx", channels=4), limit_side=32).detect(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    "settings",
    [{"width": 33}, {"width": 64}, {"limit_side": 8}, {"score_threshold": 2}, {"nms_threshold": -1}, {"threads": -1}],
)
def test_east_settings_out_of_range(east_file: Path, settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        create_detector("east", model=east_file, **settings)
