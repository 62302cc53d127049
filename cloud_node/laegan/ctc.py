"""The text recogniser's network in torch: what it reads in lines, with gradients to the frame.

References: Li et al., PP-OCRv3, 2022 (SVTR with CTC); the weights are those that rapidocr's wheel carries.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_node.laegan.onnx_graph import OnnxNetwork
from cloud_node.laegan.weights_files import WeightsError

HEIGHT, WIDTH = 48, 320  # pixels of a line as it is read; shorter lines are filled up, longer ones squeezed
LEAST_SIDE = 8  # pixels of a line in the frame; smaller text says nothing that could be kept


class Line(NamedTuple):
    """Where a line of text stands in a batch: the sample, and its pixels from left and top to before right, bottom."""

    sample: int
    left: int
    top: int
    right: int
    bottom: int


class RecognizerTwin(nn.Module):
    """The network of a CTC text recogniser, frozen, differentiable in its input; equal to ONNX Runtime within 1e-4.

    It has no parameters and nothing in its state dict: the weights stay in the file.

    Raises WeightsError: the file is missing, broken, uses operators that are not known, or is no recogniser.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.network = OnnxNetwork(path)
        try:
            with torch.no_grad():
                shape = tuple(self.network(torch.zeros(1, 3, HEIGHT, WIDTH))[0].shape)
        except RuntimeError as error:
            raise WeightsError(f"{path} is no text recogniser: it takes no line {HEIGHT} high: {error}") from error
        if len(shape) != 3 or shape[0] != 1:
            raise WeightsError(f"{path} is no text recogniser: it gives {shape}, not letters at steps")

    def forward(self, lines: Tensor) -> Tensor:
        """RGB lines (N, 3, 48, 320) in [0, 1] -> probability of each letter at each step, (N, steps, letters)."""
        return self.network(lines.flip(1) * 2 - 1)[0]  # trained on BGR


def lines_of(numbers: Tensor) -> Iterator[Line]:
    """The lines of text numbers (B, 1, S, S), where 0 is no text and 1, 2, ... are lines, that are large enough."""
    for sample, frame in enumerate(numbers[:, 0].cpu()):
        for number in range(1, int(frame.max()) + 1):
            rows, columns = (frame == number).nonzero(as_tuple=True)
            if not len(rows):
                continue
            top, bottom, left, right = (int(v) for v in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
            if LEAST_SIDE <= bottom - top <= right - left:
                yield Line(sample, left, top, right, bottom)


def cut(frames: Tensor, lines: list[Line]) -> Tensor:
    """The lines of frames (B, 3, H, W), brought to the recogniser's size: (N, 3, 48, 320), grey where they end."""
    cuts = []
    for sample, left, top, right, bottom in lines:
        line = frames[sample : sample + 1, :, top:bottom, left:right]
        width = min(WIDTH, round(HEIGHT * (right - left) / (bottom - top)))
        line = F.interpolate(line, (HEIGHT, width), mode="bilinear", align_corners=False)
        cuts.append(F.pad(line, (0, WIDTH - width), value=0.5))
    return torch.cat(cuts)
