"""ONNX operators of text detectors and recognisers as torch functions. Source: the ONNX specification, 7 to 22."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloud_node.laegan.weights_files import WeightsError

Constants = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass
class Node:
    """One step of a graph: an operator, the names of what it reads ('' = left out) and of what it makes."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def refuse(self, what: str) -> WeightsError:
        return WeightsError(
            f"{self.op} node {self.output!r}: {what} is not supported (cloud_node/laegan/onnx_operators.py)"
        )


def _borders(node: Node, kernel: Sequence[int]) -> Callable[[int, int], tuple[int, int, int, int]]:
    """(H, W) -> padding (left, right, top, bottom) of a convolution or pooling node."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if len(kernel) != 2:
        raise node.refuse(f"a kernel of {len(kernel)} axes")
    strides, dilations = node.attributes.get("strides", [1, 1]), node.attributes.get("dilations", [1, 1])
    if auto in ("NOTSET", "VALID"):
        top, left, bottom, right = node.attributes.get("pads", [0] * 4) if auto == "NOTSET" else [0] * 4
        return lambda height, width: (left, right, top, bottom)

    def side(size: int, axis: int) -> tuple[int, int]:
        stride = strides[axis]
        reach = (-(-size // stride) - 1) * stride + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(reach - size, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if auto == "SAME_UPPER" else (more, less)

    return lambda height, width: (*side(width, 1), *side(height, 0))


def _conv(node: Node, constants: Constants) -> Callable[..., Tensor]:
    if node.inputs[1] not in constants:
        raise node.refuse("a weight that is not constant")
    borders, a = _borders(node, constants[node.inputs[1]].shape[2:]), node.attributes
    stride, dilation, groups = a.get("strides", [1, 1]), a.get("dilations", [1, 1]), a.get("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        left, right, top, bottom = borders(x.shape[-2], x.shape[-1])
        if (left, top) == (right, bottom):
            return F.conv2d(x, weight, bias, stride, (top, left), dilation, groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups)

    def run_in_float32(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if x.device.type != "cpu":
            return run(x, weight, bias)
        wide = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast("cpu", enabled=False):
            return run(x.to(wide), weight.to(wide), None if bias is None else bias.to(wide)).to(x.dtype)

    # oneDNN's gradient of a strided grouped convolution takes 10 to 20 times longer in bfloat16.
    return run_in_float32 if groups > 1 and max(stride) > 1 else run


def _conv_transpose(node: Node, constants: Constants) -> Callable[..., Tensor]:
    a = node.attributes
    top, left, bottom, right = a.get("pads", [0] * 4)
    if a.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in a or (top, left) != (bottom, right):
        raise node.refuse("uneven padding or output_shape")
    stride, dilation = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    extra, groups = a.get("output_padding", [0, 0]), a.get("group", 1)
    return lambda x, w, b=None: F.conv_transpose2d(x, w, b, stride, (top, left), extra, groups, dilation)


def _pool(node: Node, constants: Constants) -> Callable[..., Tensor]:
    a, kernel = node.attributes, node.attributes["kernel_shape"]
    borders, stride = _borders(node, kernel), a.get("strides", [1, 1])
    if a.get("ceil_mode", 0) or any(d != 1 for d in a.get("dilations", [1, 1])):
        raise node.refuse("ceil_mode or dilation")
    if node.op == "MaxPool":
        return lambda x: F.max_pool2d(F.pad(x, borders(x.shape[-2], x.shape[-1]), value=-torch.inf), kernel, stride)
    if "auto_pad" in a or any(a.get("pads", [])):
        raise node.refuse("padding")
    return lambda x: F.avg_pool2d(x, kernel, stride)


def _resize(node: Node, constants: Constants) -> Callable[..., Tensor]:
    a = node.attributes
    scales = constants.get(node.inputs[-1]) if node.op == "Upsample" or len(node.inputs) == 3 else None
    mode, place = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel")
    if scales is None or len(scales) != 4 or list(scales[:2]) != [1, 1] or mode not in ("nearest", "linear"):
        raise node.refuse("a size that is not a constant scale of height and width")
    whole = all(float(s).is_integer() for s in scales)
    exact = whole and (place, a.get("nearest_mode", "round_prefer_floor")) in (
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
    )
    if (mode == "nearest" and not (exact or node.op == "Upsample")) or (mode == "linear" and place != "half_pixel"):
        raise node.refuse(f"{mode} at {place} by {scales[2:].tolist()}")
    node.inputs = node.inputs[:1]
    factors = (float(scales[2]), float(scales[3]))
    if mode == "nearest":
        return lambda x: F.interpolate(x, scale_factor=factors, mode="nearest")
    return lambda x: F.interpolate(x, scale_factor=factors, mode="bilinear", align_corners=False)


def _axes(node: Node, constants: Constants) -> list[int]:
    """The axes that a node names, as an attribute or as a constant input, which is taken off."""
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] in constants:
        axes = constants[node.inputs[1]].tolist()
    if not axes:
        raise node.refuse("axes that are not constant")
    node.inputs = node.inputs[:1]
    return list(axes)


def _mean(node: Node, constants: Constants) -> Callable[..., Tensor]:
    axes, keep = _axes(node, constants), bool(node.attributes.get("keepdims", 1))
    return lambda x: x.mean(dim=axes, keepdim=keep)


def _clip(node: Node, constants: Constants) -> Callable[..., Tensor]:
    bounds = [node.attributes.get("min"), node.attributes.get("max")]
    for index, name in enumerate(node.inputs[1:]):
        if name:
            if name not in constants:
                raise node.refuse("a bound that is not constant")
            bounds[index] = float(constants[name])
    node.inputs = node.inputs[:1]
    return lambda x: x.clamp(bounds[0], bounds[1])


def _hard_sigmoid(node: Node, constants: Constants) -> Callable[..., Tensor]:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _batch_norm(node: Node, constants: Constants) -> Callable[..., Tensor]:
    epsilon = node.attributes.get("epsilon", 1e-5)
    return lambda x, gamma, beta, mean, var: F.batch_norm(x, mean, var, gamma, beta, False, 0.0, epsilon)


def _gelu(node: Node, constants: Constants) -> Callable[..., Tensor]:
    form = node.attributes.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=form)


def _concat(node: Node, constants: Constants) -> Callable[..., Tensor]:
    axis = node.attributes["axis"]
    return lambda *xs: torch.cat(xs, dim=axis)


def _leaky(node: Node, constants: Constants) -> Callable[..., Tensor]:
    alpha = node.attributes.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


def _slice(node: Node, constants: Constants) -> Callable[..., Tensor]:
    if any(name not in constants for name in node.inputs[1:]) or len(node.inputs) < 3:
        raise node.refuse("a range that is not constant")
    starts, ends, *rest = (constants[name].tolist() for name in node.inputs[1:])
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    if any(step < 1 for step in steps):
        raise node.refuse("a step backwards")
    node.inputs = node.inputs[:1]

    def run(x: Tensor) -> Tensor:
        taken = [slice(None)] * x.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            taken[axis] = slice(start, end, step)
        return x[tuple(taken)]

    return run


def _squeeze(node: Node, constants: Constants) -> Callable[..., Tensor]:
    axes = tuple(_axes(node, constants))
    return lambda x: x.squeeze(axes)


def _unsqueeze(node: Node, constants: Constants) -> Callable[..., Tensor]:
    axes = _axes(node, constants)
    if len(axes) != 1:
        raise node.refuse("more than one new axis")
    return lambda x: x.unsqueeze(axes[0])


def _reshape(node: Node, constants: Constants) -> Callable[..., Tensor]:
    if node.attributes.get("allowzero", 0):
        raise node.refuse("allowzero")

    def run(x: Tensor, shape: Tensor) -> Tensor:
        return x.reshape([x.shape[i] if side == 0 else side for i, side in enumerate(shape.tolist())])

    return run


def _transpose(node: Node, constants: Constants) -> Callable[..., Tensor]:
    order = node.attributes["perm"]
    return lambda x: x.permute(order)


def _softmax(node: Node, constants: Constants) -> Callable[..., Tensor]:
    axis = node.attributes.get("axis", -1)
    return lambda x: x.softmax(dim=axis)


def _as(function: Callable[..., Tensor]) -> Callable[[Node, Constants], Callable[..., Tensor]]:
    return lambda node, constants: function


# An entry makes, from a node and the graph's constants, the function that runs it.
OPERATORS: dict[str, Callable[[Node, Constants], Callable[..., Tensor]]] = {
    "Add": _as(torch.add),
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _as(torch.div),
    "Erf": _as(torch.erf),
    "Gelu": _gelu,
    "GlobalAveragePool": _as(lambda x: x.mean(dim=(2, 3), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _as(F.hardswish),
    "Identity": _as(lambda x: x),
    "LeakyRelu": _leaky,
    "MatMul": _as(torch.matmul),
    "MaxPool": _pool,
    "Mul": _as(torch.mul),
    "Pow": _as(torch.pow),
    "ReduceMean": _mean,
    "Relu": _as(F.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _as(lambda x: torch.tensor(x.shape)),
    "Sigmoid": _as(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": _as(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _as(torch.sub),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
