from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cloud_node.laegan import WeightsError
from cloud_node.laegan.dbnet import STRIDES, DetectorTwin
from common.onnx_models import wheel_model
from common.text_detection import DBNet


@pytest.fixture(scope="module")
def twin() -> DetectorTwin:
    return DetectorTwin(wheel_model("det", "the test"))


def sign(width: int = 320, height: int = 160) -> Image.Image:
    image = Image.new("RGB", (width, height), (200, 190, 180))
    draw = ImageDraw.Draw(image)
    draw.text((20, 30), "NIGHT BUS 42", fill=(10, 20, 60), font=ImageFont.load_default(36))
    draw.text((20, 100), "platform 7", fill=(90, 20, 20), font=ImageFont.load_default(28))
    return image


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def onnxruntime_probability(rgb: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(wheel_model("det", "the test"), providers=["CPUExecutionProvider"])
    bgr = ((rgb.flip(1) - 0.5) / 0.5).numpy()
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: bgr})[0])


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (160, 32), (224, 96)])
def test_equal_to_onnxruntime_on_noise(twin: DetectorTwin, size: tuple[int, int]) -> None:
    rgb = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    probability = twin(rgb)
    assert probability.shape == (2, 1, *size)
    torch.testing.assert_close(probability, onnxruntime_probability(rgb), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equal_to_onnxruntime_on_text(layout: torch.memory_format) -> None:
    twin = DetectorTwin(wheel_model("det", "the test")).to(memory_format=layout)
    rgb = tensor(sign())
    probability = twin(rgb)
    assert 0.02 < (probability > 0.5).float().mean() < 0.5
    torch.testing.assert_close(probability, onnxruntime_probability(rgb), atol=1e-4, rtol=0)


def test_sees_what_the_detector_of_the_edge_sees(twin: DetectorTwin) -> None:
    """The same file, channel order and normalisation as common.text_detection's DBNet."""
    image = sign()
    detector = DBNet(limit_side=160, max_side=320)
    expected = torch.from_numpy(detector.probabilities(np.array(image)))[None, None]
    torch.testing.assert_close(twin(tensor(image)), expected, atol=1e-4, rtol=0)


def test_bfloat16_stays_near(twin: DetectorTwin) -> None:
    rgb = tensor(sign())
    with torch.autocast("cpu", torch.bfloat16):
        probability, features = twin.both(rgb)
    assert all(feature.dtype is torch.bfloat16 for feature in features)
    assert (probability.float() - twin(rgb)).abs().mean() < 0.01


def test_features_at_every_stride(twin: DetectorTwin) -> None:
    rgb = tensor(sign())
    probability, features = twin.both(rgb)
    assert [tuple(f.shape) for f in features] == [
        (1, 48, 40, 80),
        (1, 96, 20, 40),
        (1, 192, 10, 20),
        (1, 384, 5, 10),
    ]
    assert torch.equal(probability, twin(rgb))
    assert all(torch.equal(a, b) for a, b in zip(features, twin.features(rgb), strict=True))
    assert torch.equal(twin.features(rgb, (16,))[0], features[STRIDES.index(16)])


def test_what_the_neck_reads_decides_everything(twin: DetectorTwin) -> None:
    """Changing the four maps is the only way into the text map: they are all of the backbone's answer."""
    network, rgb = twin.network, torch.rand(1, 3, 64, 64)
    before = {tap: value.detach() for tap, value in zip(twin.taps, twin.features(rgb), strict=True)}
    steps = [
        step._replace(run=lambda *_, t=step.output: before[t]) if step.output in before else step
        for step in network.steps
    ]
    expected = twin(rgb)
    other = DetectorTwin(wheel_model("det", "the test"))
    other.network.steps = steps
    torch.testing.assert_close(other(torch.rand(1, 3, 64, 64)), expected)


def test_gradient_is_the_slope() -> None:
    twin = DetectorTwin(wheel_model("det", "the test")).double()
    generator = torch.Generator().manual_seed(1)
    # Noise, because on a flat ground every maximum of a pooling is a tie, which has no slope.
    rgb = tensor(sign(160, 64)).double()
    rgb = (rgb + 0.02 * torch.randn(rgb.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    direction = torch.randn(rgb.shape, generator=generator, dtype=torch.float64)
    [gradient] = torch.autograd.grad(twin(rgb).mean(), rgb)
    with torch.no_grad():
        slope = (twin(rgb + 1e-7 * direction).mean() - twin(rgb - 1e-7 * direction).mean()) / 2e-7
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-3, atol=1e-9)


def test_it_is_frozen_and_leaves_no_trace_in_a_checkpoint(twin: DetectorTwin) -> None:
    assert list(twin.parameters()) == [] and twin.state_dict() == {}
    assert twin.train()(torch.zeros(1, 3, 32, 32)).equal(twin.eval()(torch.zeros(1, 3, 32, 32)))


@pytest.mark.parametrize("shape", [(1, 3, 33, 32), (1, 3, 32, 48), (1, 1, 32, 32), (3, 32, 32)])
def test_other_shapes_are_refused(twin: DetectorTwin, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        twin(torch.zeros(shape))


def save_detector(path: Path, channels: int) -> Path:
    """A user's own 'detector': one convolution and a sigmoid."""
    weight = numpy_helper.from_array(np.ones((channels, 3, 1, 1), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Sigmoid", ["c"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", None, "h", "w"]) for name in "xy"]
    graph = helper.make_graph(nodes, "own", values[:1], values[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_detector_without_a_neck_gives_text_but_no_features(tmp_path: Path) -> None:
    twin = DetectorTwin(save_detector(tmp_path / "own.onnx", 1), mean=0, std=1)
    torch.testing.assert_close(twin(torch.full((1, 3, 32, 32), 0.1)), torch.full((1, 1, 32, 32), 0.3).sigmoid())
    with pytest.raises(WeightsError, match="no backbone"):
        twin.features(torch.zeros(1, 3, 32, 32))


def test_what_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no text detector"):
        DetectorTwin(save_detector(tmp_path / "own.onnx", 2))
    with pytest.raises(WeightsError, match="no text detector"):
        DetectorTwin(wheel_model("rec", "the test"))
