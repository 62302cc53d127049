"""Weights of a narrower AGM-Net of plain blocks as the start of a wider one: Chen et al., Net2Net, 2016.

What was there does not read what is new, so the pictures stay; the new is drawn at random, so that it can learn.
"""

from pathlib import Path

from torch import Tensor

from cloud_node.laegan.network import LAEGAN, AGMNet
from cloud_node.laegan.weights_files import fill, read_tensors

Tensors = dict[str, Tensor]
Run = tuple[int, int]  # channels of one input, in the narrow and in the wide network


def begin(model: LAEGAN, preset: str, path: Path) -> None:
    """Give a generator the weights of a file, which may be those of a narrower one of its preset.

    Raises ValueError, laegan.WeightsError as `laegan.load` does.
    """
    tensors, state = read_tensors(preset, path), model.state_dict()
    if isinstance(model.body, AGMNet) and model.cfg.block == "plain" and _narrower(tensors, state):
        tensors = widened(tensors, state)
    fill(model, tensors, preset, path)


def widened(narrow: Tensors, wide: Tensors) -> Tensors:
    """The state `wide` of an AGM-Net of plain blocks, with that of a narrower one inside."""
    state = {name: tensor.clone() for name, tensor in wide.items()}
    gate = "body.gate_in.bias"  # as wide as level 0
    c_old, c_new = len(narrow[gate]), len(wide[gate])
    for name, kept in narrow.items():
        new, rows = state[name], kept.shape[0]
        if new.ndim < 4:
            new[:rows] = kept
            continue
        new[:rows] = 0
        at_old = at_new = 0
        for old, wider in _inputs(name, kept.shape[1], new.shape[1], c_old, c_new):
            new[:rows, at_new : at_new + old] = kept[:, at_old : at_old + old]
            at_old, at_new = at_old + old, at_new + wider
    return state


def _narrower(tensors: Tensors, state: Tensors) -> bool:
    """Whether all tensors are there and fit inside those of the network, and some are smaller."""
    if tensors.keys() != state.keys() or any(t.ndim != state[name].ndim for name, t in tensors.items()):
        return False
    sides = [(a, b) for name, t in tensors.items() for a, b in zip(t.shape, state[name].shape, strict=True)]
    return all(a <= b for a, b in sides) and any(a < b for a, b in sides)


def _inputs(name: str, old: int, new: int, c_old: int, c_new: int) -> list[Run]:
    """What a convolution reads, one after the other: AGMNet.forward joins two inputs before `encode` and `decode`."""
    part, level = name.split(".")[1:3]
    joined = not name.endswith("conv2.weight")
    if part == "decode" and joined:
        return [(old // 2, new // 2)] * 2
    if part == "encode" and joined and level != "0":
        return [(old - c_old, new - c_new), (c_old, c_new)]
    return [(old, new)]
