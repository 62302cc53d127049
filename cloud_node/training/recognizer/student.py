"""The recogniser's network with weights that learn: `RecognizerTwin` reads with those of the file alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cloud_node.laegan.onnx_graph import OnnxNetwork
from common.onnx_overlay import Differences

LEAST = 16  # numbers; a smaller constant is part of a formula


class Student(nn.Module):
    """The network of an ONNX file; what its layers multiply and add learns; statistics and the last layer do not.

    The last layer stays, so that a letter which no lesson has is still told from the others as the teacher tells it.

    Raises WeightsError: see `OnnxNetwork`.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.network = OnnxNetwork(path, join=False)
        self.logits = self.network.steps[-1].inputs[0]  # before the softmax
        matrix = next(step for step in reversed(self.network.steps) if step.op == "MatMul")
        self.features, last = matrix.inputs  # what the last layer tells the letters from, (N, steps, features)
        weights = getattr(self.network, self.network.slots[last])
        self.register_buffer("_metric", torch.linalg.cholesky(torch.cov(weights, correction=0)), persistent=False)
        fixed = {name for step in self.network.steps[-3:] for name in step.inputs}
        fixed |= {name for step in self.network.steps if step.op == "BatchNormalization" for name in step.inputs[3:]}
        self.slots = {}
        for name, slot in self.network.slots.items():
            value = getattr(self.network, slot)
            if name not in fixed and value.is_floating_point() and value.numel() >= LEAST:
                delattr(self.network, slot)
                self.network.register_parameter(slot, nn.Parameter(value.clone()))
                self.slots[name] = slot

    def forward(self, lines: Tensor) -> Tensor:
        """BGR lines (N, 3, 48, W) in [-1, 1] -> logarithm of the probability of each letter, (N, steps, letters)."""
        return self.network(lines, (self.logits,))[0].log_softmax(-1)

    def seen(self, lines: Tensor) -> Tensor:
        """What the last layer is given, so scaled that the square of a distance, summed, is the variance over all
        letters of the difference of their logits: (N, steps, features)."""
        return self.network(lines, (self.features,))[0] @ self._metric

    def learned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by their names in the file."""
        for name, slot in self.slots.items():
            yield name, getattr(self.network, slot)

    @torch.no_grad()
    def begin_from(self, differences: Differences) -> None:
        """Goes on where other weights over the file stopped."""
        for name, parameter in self.learned():
            if name in differences:
                parameter.add_(torch.from_numpy(differences[name].astype(np.float32)))

    def weights(self) -> dict[str, np.ndarray]:
        return {name: parameter.detach().numpy().copy() for name, parameter in self.learned()}


class Average:
    """The exponential mean of the parameters over steps, which is what gets saved."""

    def __init__(self, student: Student, share: float):
        self.share, self.steps = share, 0
        self.values = {name: parameter.detach().clone() for name, parameter in student.learned()}

    @torch.no_grad()
    def update(self, student: Student) -> None:
        self.steps += 1
        share = min(self.share, self.steps / (self.steps + 10))  # the first steps are soon forgotten
        for name, parameter in student.learned():
            self.values[name].lerp_(parameter, 1 - share)

    def weights(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.values.items()}


def as_input(crop: np.ndarray, width: int) -> np.ndarray:
    """A crop (48, W, 3) uint8 as the network takes it, its last column repeated to `width`: (3, 48, width) float32."""
    filled = np.pad(crop, ((0, 0), (0, width - crop.shape[1]), (0, 0)), mode="edge")
    made: np.ndarray = filled[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    return made
