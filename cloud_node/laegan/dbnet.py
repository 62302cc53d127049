"""The text detector's network in torch: what it sees in a frame, with gradients to the frame.

References: Liao et al., DBNet, AAAI 2020; the weights are those that rapidocr's wheel carries for ONNX Runtime.
"""

from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from cloud_node.laegan.onnx_graph import OnnxNetwork
from cloud_node.laegan.weights_files import WeightsError

STRIDES = (4, 8, 16, 32)
PROBE_SIDE = 64  # the smallest at which no stride looks like a global pooling


class DetectorTwin(nn.Module):
    """The network of a DBNet text detector, frozen, differentiable in its input; equal to ONNX Runtime within 1e-4.

    It has no parameters and nothing in its state dict: the weights stay in the file. It runs in float32 or under
    autocast.

    Args:
        path: the ONNX file; `common.onnx_models.wheel_model("det", ...)` finds the default one.
        mean, std: normalisation of RGB values in [0, 1]; rapidocr's by default.

    Raises:
        WeightsError: the file is missing, broken, uses operators that are not known, or is no text detector.
    """

    def __init__(self, path: Path, mean: float = 0.5, std: float = 0.5):
        super().__init__()
        self.network = OnnxNetwork(path)
        self.mean, self.std = mean, std
        try:
            traced = self.network.trace(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
        except RuntimeError as error:
            raise WeightsError(f"{path} is no text detector: it takes no square image: {error}") from error
        shape = tuple(traced[self.network.output].shape)
        if shape != (1, 1, PROBE_SIDE, PROBE_SIDE):
            raise WeightsError(f"{path} is no text detector: it gives {shape}, not a probability of each pixel")
        self.taps = _neck_inputs(self.network, traced)

    def forward(self, rgb: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1] -> probability of text, (B, 1, H, W) in [0, 1].

        Raises ValueError unless H and W are multiples of 32.
        """
        return self.network(self._blob(rgb))[0]

    def features(self, rgb: Tensor, strides: tuple[int, ...] = STRIDES) -> list[Tensor]:
        """RGB as for `forward` -> the backbone's maps (B, C_s, H / s, W / s) for s in `strides`, of 4, 8, 16, 32.

        They are what the neck reads, before its own convolutions; nothing behind the last one asked for is run.
        Raises WeightsError where the graph has no such maps.
        """
        taps = dict(zip(STRIDES, self._found(), strict=True))
        return self.network(self._blob(rgb), tuple(taps[stride] for stride in strides))

    def both(self, rgb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`forward` and `features` for the price of one."""
        probability, *features = self.network(self._blob(rgb), (self.network.output, *self._found()))
        return probability, features

    def _blob(self, rgb: Tensor) -> Tensor:
        if rgb.ndim != 4 or rgb.shape[1] != 3 or rgb.shape[-2] % 32 or rgb.shape[-1] % 32:
            raise ValueError(f"expected RGB (B, 3, H, W), H and W multiples of 32, got {tuple(rgb.shape)}")
        return (rgb.flip(1) - self.mean) / self.std  # trained on BGR

    def _found(self) -> tuple[str, ...]:
        if len(self.taps) != len(STRIDES):
            raise WeightsError(f"the detector has no backbone with maps of strides {STRIDES} that a neck reads")
        return self.taps


def _neck_inputs(network: OnnxNetwork, traced: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the tensors by which the backbone hands over to the neck, at STRIDES; () where there are none.

    At strides 4, 8 and 16: the last tensor on the way down to the next stride that a step off that way reads too,
    and that step is the neck's first. At 32 nothing goes further down; there it is what the last convolution to
    the neck's width reads, before the maps grow again.
    """
    steps = {step.output: step for step in network.steps}
    strides: dict[str, int] = defaultdict(int)  # 0 for what is no map: pooled tensors, constants, the input itself
    strides |= {name: PROBE_SIDE // t.shape[-1] for name, t in traced.items() if t.ndim == 4 and t.shape[-1] > 1}

    def ancestors(name: str) -> set[str]:
        found, todo = set(), [name]
        while todo:
            step = steps.get(todo.pop())
            new = [] if step is None else [n for n in step.inputs if n in steps and n not in found]
            found.update(new)
            todo += new
        return found

    order, taps = list(steps), []
    for stride in STRIDES[:-1]:
        below = next((name for name in order if strides[name] == 2 * stride), None)
        if below is None:
            return ()
        trunk = ancestors(below)
        off = [step for step in network.steps if step.output not in trunk | {below} and strides[step.output] == stride]
        read = {name for step in off for name in step.inputs if name in trunk and strides[name] == stride}
        taps += [name for name in order if name in read][-1:]
    grown = next((s.output for s in network.steps if (strides[s.inputs[0]], strides[s.output]) == (32, 16)), None)
    if grown is None:
        return ()
    width, before = traced[grown].shape[1], ancestors(grown)
    for name in reversed([name for name in order if name in before and strides[name] == 32]):
        source = steps[name].inputs[0]
        if strides[source] == 32 and traced[name].shape[1] == width != traced[source].shape[1]:
            return (*taps, source)
    return ()
