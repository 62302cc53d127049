from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cloud_node.laegan import WeightsError
from cloud_node.laegan.ctc import Line, RecognizerTwin, cut, lines_of
from common.onnx_models import wheel_model
from common.text_recognition import CTCRecognizer

RECOGNIZER = wheel_model("rec", "the test")


@pytest.fixture(scope="module")
def twin() -> RecognizerTwin:
    return RecognizerTwin(RECOGNIZER)


def page(*texts: str) -> Tensor:
    """Lines of text one above the other, 32 pixels each: (1, 3, H, 192) in [0, 1]."""
    image = Image.new("RGB", (192, 32 * len(texts)), "white")
    for row, text in enumerate(texts):
        ImageDraw.Draw(image).text((6, 32 * row + 2), text, font=ImageFont.load_default(24), fill="black")
    return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0)[None].float() / 255


def test_equals_onnx_runtime(twin: RecognizerTwin) -> None:
    lines = torch.rand(2, 3, 48, 320, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(RECOGNIZER, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: (lines.flip(1) * 2 - 1).numpy()})[0]
    assert np.abs(twin(lines).detach().numpy() - wanted).max() < 1e-4


def test_reads_the_lines_that_are_cut_out(twin: RecognizerTwin) -> None:
    frame = page("EXIT 42", "Platform")
    lines = [Line(0, 0, 0, 120, 32), Line(0, 0, 32, 130, 64)]
    recognizer = CTCRecognizer(threads=1)
    recognizer.load()
    with torch.no_grad():
        read = [recognizer.decode(p.numpy()).text for p in twin(cut(frame, lines))]
    assert read == ["EXIT 42", "Platform"]


def test_gradients_reach_the_line_and_nothing_else(twin: RecognizerTwin) -> None:
    frame = page("EXIT 42", "Platform").requires_grad_()
    twin(cut(frame, [Line(0, 0, 0, 120, 32)])).log().mean().backward()
    assert frame.grad is not None
    assert frame.grad[..., :32, :120].abs().max() > 0 and frame.grad[..., 32:, :].abs().max() == 0


def test_lines_that_are_too_small_or_stand_upright_are_left_out() -> None:
    numbers = torch.zeros(2, 1, 64, 64)
    numbers[0, 0, 4:14, 2:40] = 1
    numbers[0, 0, 20:25, 2:40] = 2  # 5 high
    numbers[1, 0, 0:40, 0:10] = 1  # upright
    numbers[1, 0, 44:60, 30:64] = 3  # 2 is hidden
    assert list(lines_of(numbers)) == [Line(0, 2, 4, 40, 14), Line(1, 30, 44, 64, 60)]


def test_what_is_no_recognizer(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no text recogniser"):
        RecognizerTwin(wheel_model("det", "the test"))
    with pytest.raises(WeightsError, match="there is no"):
        RecognizerTwin(tmp_path / "none.onnx")
