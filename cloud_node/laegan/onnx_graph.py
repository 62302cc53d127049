"""A network kept as an ONNX file, run by torch: differentiable in its input, its weights frozen.

Convolutional networks only, up to what text detectors are made of; see OPERATORS. Before the first run
what an export spreads over nodes is put together: per-channel constants join the convolution before them
and the five nodes of a GELU become one. Sources: the ONNX operator specification, opsets 7 to 22.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cloud_node.laegan.onnx_operators import OPERATORS, Constants, Node
from cloud_node.laegan.weights_files import WeightsError


class Step(NamedTuple):
    run: Callable[..., Tensor]
    inputs: tuple[str, ...]
    output: str
    op: str


class OnnxNetwork(nn.Module):
    """The graph of an ONNX file with one image input. Weights are buffers that are in no state dict.

    Args:
        join: affine layers become part of the convolution before them; without it each weight of the file stays itself.

    Raises:
        WeightsError: the file is missing, broken, or holds an operator that OPERATORS does not.
    """

    def __init__(self, path: Path, *, join: bool = True):
        super().__init__()
        nodes, constants, self.input, self.output = read(path)
        nodes = drop_identities(nodes, self.output)
        nodes = join_gelu(join_affine(nodes, constants, self.output) if join else nodes, constants)
        unknown = sorted({node.op for node in nodes} - OPERATORS.keys())
        if unknown:
            raise WeightsError(
                f"{path} uses ONNX operators that are not known here: {', '.join(unknown)}; "
                "use another detector, or add them to OPERATORS in cloud_node/laegan/onnx_operators.py"
            )
        try:
            self.steps = [Step(OPERATORS[n.op](n, constants), tuple(n.inputs), n.output, n.op) for n in nodes]
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None
        self.slots: dict[str, str] = {}  # where each constant stands, by its name
        used = {name for step in self.steps for name in step.inputs}
        for index, name in enumerate(sorted(used & constants.keys())):
            value = torch.from_numpy(np.array(constants[name]))
            self.slots[name] = f"constant_{index}"
            if value.is_floating_point():
                self.register_buffer(self.slots[name], value.float(), persistent=False)
            else:  # shapes are reckoned with on the CPU, wherever the network is
                setattr(self, self.slots[name], value)
        self._plans: dict[tuple[str, ...], list[tuple[Step, list[str]]]] = {}

    def forward(self, image: Tensor, outputs: tuple[str, ...] = ()) -> list[Tensor]:
        """(B, C, H, W) -> the tensors of these names (the graph's own output where none is named).

        Runs only what these need. Under no_grad, each tensor is freed after its last use.
        """
        outputs = outputs or (self.output,)
        if outputs not in self._plans:
            self._plans[outputs] = self._plan(outputs)
        values: dict[str, Tensor] = {self.input: image}
        for step, spent in self._plans[outputs]:
            arguments = [values[name] if name in values else getattr(self, self.slots[name]) for name in step.inputs]
            values[step.output] = step.run(*arguments)
            for name in spent:
                del values[name]
        return [values[name] for name in outputs]

    def trace(self, image: Tensor) -> dict[str, Tensor]:
        """Every tensor of the graph by its name, in the order of the run."""
        names = tuple(step.output for step in self.steps)
        with torch.no_grad():
            return dict(zip(names, self(image, names), strict=True))

    def _plan(self, outputs: tuple[str, ...]) -> list[tuple[Step, list[str]]]:
        needed, keep = set(outputs), set(outputs) | self.slots.keys()
        chosen: list[tuple[Step, list[str]]] = []
        for step in reversed(self.steps):
            if step.output in needed:
                last = [name for name in dict.fromkeys(step.inputs) if name not in keep]
                keep.update(last)
                needed.update(step.inputs)
                chosen.append((step, last))
        return chosen[::-1]


def read(path: Path) -> tuple[list[Node], Constants, str, str]:
    """Nodes in running order, constants, name of the only input, name of the first output. Raises WeightsError."""
    try:
        import onnx
    except ImportError as error:
        raise WeightsError(f"reading {path} needs the onnx package: pip install 'lamplight[train]' ({error})") from None
    if not Path(path).is_file():
        raise WeightsError(f"there is no detector file {path}")
    try:
        model = onnx.load(path)
    except Exception as error:  # which kind depends on protobuf's implementation
        raise WeightsError(f"{path} is truncated or no ONNX file: {error}") from error
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[Node] = []
    for node in graph.node:
        attributes = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}
        if node.op_type == "Constant":
            value = next(iter(attributes.values()))
            constants[node.output[0]] = onnx.numpy_helper.to_array(value) if hasattr(value, "dims") else np.array(value)
        else:
            inputs = list(node.input)
            while inputs and not inputs[-1]:  # optional ones left out
                inputs.pop()
            nodes.append(Node(node.op_type, inputs, node.output[0], attributes))
    images = [value.name for value in graph.input if value.name not in constants]
    if len(images) != 1 or not graph.output:
        raise WeightsError(f"{path} is no network with one image input: it has the inputs {images}")
    known = {"", *images, *constants, *(node.output for node in nodes)}
    dangling = {name for node in nodes for name in node.inputs} - known
    if dangling or graph.output[0].name not in known:
        raise WeightsError(f"{path} is broken: nothing makes {', '.join(sorted(dangling)) or graph.output[0].name}")
    return nodes, constants, images[0], graph.output[0].name


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def drop_identities(nodes: list[Node], output: str) -> list[Node]:
    """The nodes without those that change nothing at inference."""
    names: dict[str, str] = {}
    kept: list[Node] = []
    for node in nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        if node.op in ("Identity", "Dropout") and node.output != output:
            names[node.output] = node.inputs[0]
        else:
            kept.append(node)
    return kept


def join_affine(nodes: list[Node], constants: Constants, output: str) -> list[Node]:
    """Batch normalisation, Add and Mul of per-channel constants become part of the convolution before them."""
    uses = Counter([output, *(name for node in nodes for name in node.inputs)])
    convolutions: dict[str, Node] = {}
    kept: list[Node] = []
    for node in nodes:
        source = next((convolutions[name] for name in node.inputs if name in convolutions), None)
        affine = None
        if source is not None and uses[source.output] == 1:
            channels = constants[source.inputs[1]].shape[0 if source.op == "Conv" else 1]
            affine = _affine(node, channels, constants)
        if source is None or affine is None:
            kept.append(node)
            plain = node.op == "Conv" or (node.op == "ConvTranspose" and node.attributes.get("group", 1) == 1)
            if plain and all(name in constants for name in node.inputs[1:] if name):
                convolutions[node.output] = node
            continue
        scale, shift = affine
        weight = constants[source.inputs[1]]
        bias = constants[source.inputs[2]] if len(source.inputs) > 2 else np.zeros(len(scale), np.float32)
        shape = (-1, 1, 1, 1) if source.op == "Conv" else (1, -1, 1, 1)
        source.inputs[1:] = [f"{node.output}.weight", f"{node.output}.bias"]
        constants[source.inputs[1]] = (weight * scale.reshape(shape)).astype(np.float32)
        constants[source.inputs[2]] = (bias * scale + shift).astype(np.float32)
        del convolutions[source.output]
        source.output = node.output
        convolutions[source.output] = source
    return kept


def _affine(node: Node, channels: int, constants: Constants) -> tuple[Any, Any] | None:
    """(scale, shift), each (channels,), where a node is y = scale x + shift with constants per channel."""
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "BatchNormalization" and all(name in constants for name in node.inputs[1:]):
        gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in node.inputs[1:])
        scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        return scale, beta - mean * scale
    if node.op in ("Add", "Mul"):
        values = [constants[name] for name in node.inputs if name in constants]
        if len(values) == 1 and values[0].shape in ((), (1,), (1, 1, 1, 1), (channels, 1, 1), (1, channels, 1, 1)):
            value = np.broadcast_to(values[0].ravel(), (channels,)).astype(np.float64)
            return (one, value) if node.op == "Add" else (value, zero)
    return None


def join_gelu(nodes: list[Node], constants: Constants) -> list[Node]:
    """x / sqrt 2, Erf, + 1, * x, * 0.5 -> one Gelu node: exact GELU, five kernels fewer."""
    makers = {node.output: node for node in nodes}
    users: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)

    def only_user(node: Node, op: str, value: float | None) -> Node | None:
        """The one node that reads `node`, where it is `op` with that constant (None: with another tensor)."""
        readers = users.get(node.output, [])
        if len(readers) != 1 or readers[0].op != op:
            return None
        others = [constants.get(name) for name in readers[0].inputs if name != node.output]
        if value is None:
            return readers[0] if others == [None] else None
        return readers[0] if len(others) == 1 and _is(others[0], value) else None

    gone: set[str] = set()
    for erf in [node for node in nodes if node.op == "Erf"]:
        divide = makers.get(erf.inputs[0])
        if divide is None or divide.op != "Div" or not _is(constants.get(divide.inputs[1]), 2**0.5):
            continue
        add = only_user(erf, "Add", 1.0)
        product = add and only_user(add, "Mul", None)
        half = product and only_user(product, "Mul", 0.5)
        if add and product and half and divide.inputs[0] in product.inputs and users[divide.output] == [erf]:
            gone |= {divide.output, erf.output, add.output, product.output}
            half.op, half.inputs = "Gelu", [divide.inputs[0]]
    return [node for node in nodes if node.output not in gone]


def _is(value: np.ndarray[Any, Any] | None, expected: float) -> bool:
    return value is not None and value.size == 1 and bool(np.isclose(float(value.reshape(())), expected, rtol=1e-5))
