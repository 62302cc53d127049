import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common.errors import ImageError, SettingsError, WeightsError
from common.frame import Region
from common.text_detection import (
    EAST,
    EAST_GEOMETRY,
    EAST_MEAN,
    EAST_SCORES,
    DBNet,
    create_detector,
    decode_east,
    iou,
    is_whole_frame,
    match,
    network_size,
)

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

WORDS = {"PLATFORM 7": (40, 40), "EXIT": (380, 150), "Open 24 hours": (90, 260)}


@pytest.fixture(scope="module")
def dbnet() -> DBNet:
    return DBNet(limit_side=320, threads=1)


def sign(width: int = 600, height: int = 360) -> tuple[np.ndarray, list[list[tuple[float, float]]]]:
    """White words on dark blue, and the boxes they were drawn in."""
    image = Image.new("RGB", (width, height), (20, 30, 60))
    draw, font, boxes = ImageDraw.Draw(image), ImageFont.load_default(36), []
    for word, at in WORDS.items():
        draw.text(at, word, fill=(250, 250, 245), font=font)
        left, top, right, bottom = draw.textbbox(at, word, font=font)
        boxes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    return np.asarray(image), boxes


def area2(polygon) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True))


def test_finds_the_words_where_they_are(dbnet: DBNet) -> None:
    rgb, boxes = sign()
    regions = dbnet.detect(rgb)
    assert sorted(j for _, j in match(regions, boxes)) == [0, 1, 2]
    assert len(regions) == 3
    assert [region.polygon[0][1] for region in regions] == sorted(r.polygon[0][1] for r in regions)
    for region in regions:
        assert 0.5 <= region.score <= 1
        assert len(region.polygon) == 4
        assert area2(region.polygon) > 0  # clockwise, as y grows downwards


def test_each_score_belongs_to_its_box(dbnet: DBNet) -> None:
    rgb, boxes = sign()
    scores = {}
    for box in boxes:
        (left, top), _, (right, bottom), _ = box
        alone = np.full_like(rgb, (20, 30, 60))
        alone[int(top) - 4 : int(bottom) + 4, int(left) - 4 : int(right) + 4] = rgb[
            int(top) - 4 : int(bottom) + 4, int(left) - 4 : int(right) + 4
        ]
        scores[tuple(box)] = dbnet.detect(alone)[0].score
    together = dbnet.detect(rgb)
    for i, j in match(together, boxes):
        assert together[i].score == pytest.approx(scores[tuple(boxes[j])], abs=0.03)


def test_outlines_stay_inside_the_image(dbnet: DBNet) -> None:
    image = Image.new("RGB", (300, 120), (10, 10, 10))
    ImageDraw.Draw(image).text(
        (-30, 70), "CUT OFF HERE AND THERE", fill=(255, 255, 255), font=ImageFont.load_default(56)
    )
    regions = dbnet.detect(np.asarray(image))
    assert regions
    for x, y in (point for region in regions for point in region.polygon):
        assert 0 <= x <= 300 and 0 <= y <= 120


@pytest.mark.parametrize("level", [0, 8, 20])
def test_nothing_is_found_in_the_noise_of_the_dark(dbnet: DBNet, level: int) -> None:
    noise = np.random.default_rng(level).normal(level, 8, (400, 600, 3))
    assert dbnet.detect(np.clip(noise, 0, 255).astype(np.uint8)) == ()


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 900), (1200, 2)])
def test_tiny_and_thin_images(dbnet: DBNet, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for region in dbnet.detect(image):
        assert all(0 <= x <= size[1] and 0 <= y <= size[0] for x, y in region.polygon)


def test_eight_k() -> None:
    rgb, boxes = sign()
    big = np.asarray(Image.fromarray(rgb).resize((7680, 4608)))
    regions = DBNet(limit_side=320, max_side=640).detect(big)
    scaled = [[(x * 12.8, y * 12.8) for x, y in box] for box in boxes]
    assert len(match(regions, scaled)) == 3


def test_from_many_threads_while_loading() -> None:
    detector, rgb = DBNet(limit_side=160, max_side=320), sign()[0]
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(detector.detect(rgb)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    create_detector("dbnet", limit_side=64, threads=1).detect(np.zeros((64, 64, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), float), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image(dbnet: DBNet, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        dbnet.detect(image)


def test_an_unknown_detector_lists_the_known() -> None:
    with pytest.raises(SettingsError, match="'yolo'; choose one of: dbnet"):
        create_detector("yolo")


@pytest.mark.parametrize(
    "settings", [{"limit_side": 8}, {"score_threshold": 1.5}, {"unclip_ratio": 0}, {"threads": -1}]
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        create_detector("dbnet", **settings)


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


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def test_whole_frame() -> None:
    assert is_whole_frame(box(0, 0, 599, 399), 600, 400)
    assert is_whole_frame(box(12, 8, 590, 395), 600, 400)
    assert not is_whole_frame(box(0, 0, 599, 300), 600, 400)  # a banner over three quarters
    assert not is_whole_frame(box(40, 10, 560, 390), 600, 400)  # a page with a margin
    assert not is_whole_frame(box(0, 180, 599, 220), 600, 400)


def test_iou() -> None:
    square = box(0, 0, 2, 2)
    assert iou(square, square) == pytest.approx(1)
    assert iou(square, box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou(square, box(5, 5, 6, 6)) == 0
    assert iou(square, [(1, 0), (2, 1), (1, 2), (0, 1)]) == pytest.approx(0.5)  # a diamond in it
    assert iou(square, list(reversed(square))) == pytest.approx(1)
    assert iou(square, [(0, 0), (2, 0), (2, 0), (0, 0)]) == 0  # no area
    assert iou(Region(tuple(square), 0.9), square) == pytest.approx(1)


def test_match_uses_each_region_once() -> None:
    truth = [box(0, 0, 10, 10), box(20, 0, 30, 10), box(40, 0, 50, 10)]
    found = [box(21, 0, 31, 10), box(0, 0, 10, 9), box(0, 1, 10, 10), box(46, 0, 56, 10)]
    assert match(found, truth) == [(1, 0), (0, 1)]
    assert match(found, truth, threshold=0.2) == [(1, 0), (0, 1), (3, 2)]
    assert match([], truth) == match(found, []) == []


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
    corners, found = decode_east(scores, geometry, 0.5)
    assert len(corners) == len(found) == int(scores.sum()) > 20
    assert np.abs(corners - truth).max() < 0.01
    assert truth[1][1] <= truth[0][1] if degrees >= 0 else truth[1][1] > truth[0][1]  # positive: climbs to the right
    assert area2([tuple(point) for point in corners[0]]) > 0


def test_east_decodes_like_opencv(east_file: Path) -> None:
    """OpenCV's own decoder on the same graph, whose boxes are cell + (10, 30, 6, 20) pixels at 0.3 radians."""
    import cv2

    rgb = np.zeros((128, 160, 3), np.uint8)
    rgb[64:68, 80:84] = 255
    peer = cv2.dnn.TextDetectionModel_EAST(cv2.dnn.readNet(str(east_file)))
    peer.setConfidenceThreshold(0.5).setNMSThreshold(0.4)
    peer.setInputParams(1.0, (160, 128), EAST_MEAN, False)
    outlines, _ = peer.detect(rgb)
    (region,) = EAST(east_file, width=160, height=128).detect(rgb)
    expected = sorted(tuple(map(float, point)) for point in outlines[0])
    np.testing.assert_allclose(sorted(region.polygon), expected, atol=1)  # OpenCV's are whole pixels


def east_onnx(path: Path, geometry: str = EAST_GEOMETRY, channels: int = 5) -> Path:
    """A graph with EAST's outputs: text is what is redder than 124 on average over a cell, boxes are constant."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    red, none = np.zeros((1, 3, 1, 1), np.float32), np.zeros((channels, 3, 1, 1), np.float32)
    red[0, 0] = 4
    box = np.array([10, 30, 6, 20, 0.3][:channels], np.float32)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["cells", "red"], ["redness"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["redness"], [EAST_SCORES], name=EAST_SCORES),
        helper.make_node("Conv", ["cells", "none", "box"], [geometry], name=geometry, kernel_shape=[1, 1]),
    ]
    shapes = {"x": 3, EAST_SCORES: 1, geometry: channels}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, depth, f"h{name}", f"w{name}"])
        for name, depth in shapes.items()
    }
    constants = [numpy_helper.from_array(array, name) for array, name in ((red, "red"), (none, "none"), (box, "box"))]
    graph = helper.make_graph(nodes, "east", [values["x"]], [values[EAST_SCORES], values[geometry]], constants)
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
        node("Sigmoid", EAST_SCORES, "redness", T=floats),
        constant("none", np.zeros((1, 1, 3, 4))),
        constant("sides", np.array([10, 30, 6, 20])),
        conv("flat", "none"),
        node("BiasAdd", "distances", "flat", "sides", T=floats, data_format=last),
        constant("nothing", np.zeros((1, 1, 3, 1))),
        constant("turn", np.array([0.3])),
        conv("level", "nothing"),
        node("BiasAdd", "angle", "level", "turn", T=floats, data_format=last),
        node("Const", "axis", dtype=whole, value=message(8, message(1, 3) + message(2, b"") + message(7, 3))),
        node("ConcatV2", EAST_GEOMETRY, "distances", "angle", "axis", T=floats, N=message(3, 2), Tidx=whole),
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
@pytest.mark.parametrize("content", [b"", b"hello", f"{EAST_SCORES} {EAST_GEOMETRY}".encode()])
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
    with pytest.raises(WeightsError, match=f"no output {EAST_GEOMETRY}"):
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


def test_real_receipts() -> None:
    folder = SHARED_DATA / "receipts_sroie"
    if not folder.is_dir():
        pytest.skip("the shared photographs are not here")
    detector, matched, boxes = DBNet(), 0, 0
    for path in sorted((folder / "images").glob("*.jpg"))[:2]:
        lines = (folder / "gt" / f"{path.stem}.txt").read_text().splitlines()
        numbers = [[float(n) for n in line.split(",")[:8]] for line in lines]
        truth = [list(zip(row[::2], row[1::2], strict=True)) for row in numbers]
        found = detector.detect(np.asarray(Image.open(path).convert("RGB")))
        matched += len(match(found, truth))
        boxes += len(found) + len(truth)
    assert 2 * matched / boxes > 0.8  # 0.87 with rapidocr 3.10
