"""Rewrite a network so that ONNX Runtime runs it faster on a CPU: the same sums, in other layers.

Its fast convolutions keep their values in blocks of 16 channels (NCHWc); each layer that has no such form, and each
number of channels that is no multiple, costs two passes over the whole map. What is rewritten here keeps them in
blocks, or saves a pass. Results differ by the order of a few sums, 2e-7 of a probability (docs/reading.md).
"""

from itertools import product
from typing import Final

import numpy as np

from common.onnx_file import Network, Node, Weights, attribute

BLOCK: Final = 16
GATES: Final = {b"HardSigmoid", b"Sigmoid"}
SAME_SHAPE: Final = {b"Add", b"Relu", b"MaxPool"}  # one channel out for each one in, zero where it is zero


def faster(model: bytes) -> bytes:
    """The network rewritten where it has layers as below; as it is where it has none, or is no network."""
    try:
        network = Network(model)
        drop_identities(network)
        for rewrite in (add_rather_than_join, fill_blocks, gate_once, enlarge_last, stay_in_blocks):
            rewrite(network)
        return network.written() if network.changed else model
    except (IndexError, ValueError):
        return model


def drop_identities(network: Network) -> None:
    """Layers that do nothing: they would hide what follows what."""
    names: dict[bytes, bytes] = {}
    kept = []
    for node in network.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        if node.op_type == b"Identity" and not set(node.outputs) & network.outputs:
            names[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    network.nodes = kept


def add_rather_than_join(network: Network) -> None:
    """A convolution of joined maps is the sum of a convolution of each; adding costs nothing, joining a pass.

    Only of maps that come in blocks: out of Relu and MaxPool.
    """
    for join in [node for node in network.nodes if node.op_type == b"Concat" and node.ints.get(b"axis") == [1]]:
        conv = network.only_user(join.outputs[0])
        weights = conv and conv.op_type == b"Conv" and _weights_of_one_group(network, conv)
        makers = [network.maker(name) for name in join.inputs]
        if conv is None or not isinstance(weights, np.ndarray) or len(conv.inputs) != 2 or len(makers) != 2:
            continue
        first, second = (_channels(network, name) for name in join.inputs)
        if not all(maker and maker.op_type in (b"Relu", b"MaxPool") for maker in makers):
            continue
        if first is None or second is None or first + second != weights.shape[1]:
            continue
        bias = network.only_user(conv.outputs[0])
        level = _bias(network, bias, conv.outputs[0])
        made = [conv.outputs[0] + b".first", conv.outputs[0] + b".second"]
        parts = [
            Node([name, network.add_weights(made[i] + b".weights", part)], [made[i]], b"Conv", conv.attributes)
            for i, (name, part) in enumerate(zip(join.inputs, (weights[:, :first], weights[:, first:]), strict=True))
        ]
        old, total = [join, conv], conv.outputs[0]
        if bias is not None and level is not None:
            parts[1].inputs.append(network.add_weights(made[1] + b".bias", level))
            old, total = [join, conv, bias], bias.outputs[0]
        network.replace(old, [*parts, Node(made, [total], b"Add")])


def fill_blocks(network: Network) -> None:
    """Empty channels up to a whole block, for maps that would leave their blocks for want of them: those of fewer than
    one block, and those that are pooled."""
    for conv in network.nodes:
        weights = _weights_of_one_group(network, conv)
        if weights is None or not len(weights) % BLOCK:
            continue
        followers = _followers(network, conv)
        if followers is None:
            continue
        layers, takers = followers
        if len(weights) > BLOCK and not any(node.op_type == b"MaxPool" for node in layers):
            continue
        more = -len(weights) % BLOCK
        _widen(network, conv, 1, 0, more)
        if len(conv.inputs) == 3:
            _widen(network, conv, 2, 0, more)
        for node in layers:
            if node.op_type == b"Add":
                _widen(network, node, 1, 1, more)
        for node in takers:
            _widen(network, node, 1, 1, more)


def gate_once(network: Network) -> None:
    """x + x s = x (1 + s) where s is a gate, one number for each channel: a pass over the map less."""
    for scaled in [node for node in network.nodes if node.op_type == b"Mul"]:
        added = network.only_user(scaled.outputs[0])
        x, s = scaled.inputs
        gate = network.maker(s)
        if added is None or added.op_type != b"Add" or gate is None or gate.op_type not in GATES:
            continue
        if sorted(added.inputs) != sorted([x, scaled.outputs[0]]):
            continue
        one = network.add_weights(b"one", np.ones(1, np.float32))
        more = Node([s, one], scaled.outputs, b"Add")
        network.replace([scaled, added], [more, Node([x, more.outputs[0]], added.outputs, b"Mul")])


def enlarge_last(network: Network) -> None:
    """Two steps that double a map are convolutions of single pixels, whose channels are laid out side by side after
    them: the enlarged map, four and sixteen times as large, is never made with all its channels. To the same bits."""
    for first in [node for node in network.nodes if _doubles(network, node) is not None]:
        add = _biased(network, first)
        relu = add and network.only_user(add.outputs[0])
        second = relu and relu.op_type == b"Relu" and network.only_user(relu.outputs[0])
        if not add or not relu or not isinstance(second, Node):
            continue
        last = _biased(network, second)
        inner, outer = _doubles(network, first), _doubles(network, second)
        levels = [_bias(network, node, made.outputs[0]) for node, made in ((add, first), (last, second))]
        if last is None or inner is None or outer is None or levels[0] is None or levels[1] is None:
            continue
        deep, thin = inner.shape[1], outer.shape[1]
        wide = np.zeros((4 * deep, len(inner), 1, 1), np.float32)
        laid = np.zeros((4, 4, thin, 4 * deep, 1, 1), np.float32)  # row and column of the sixteen, channel; from
        for i, j in product(range(2), range(2)):
            at = (2 * i + j) * deep
            wide[at : at + deep, :, 0, 0] = inner[:, :, i, j].T
            for k, m in product(range(2), range(2)):
                laid[2 * i + k, 2 * j + m, :, at : at + deep, 0, 0] = outer[:, :, k, m].T
        biases = np.tile(levels[0], 4), np.tile(levels[1], 16)
        single = [attribute(b"kernel_shape", [1, 1])]
        new = []
        source = first.inputs[0]
        for node, weights, level in ((first, wide, biases[0]), (second, laid.reshape(16 * thin, -1, 1, 1), biases[1])):
            name = node.outputs[0] + b".pixels"
            held = [network.add_weights(name + b".weights", weights), network.add_weights(name + b".bias", level)]
            new.append(Node([source, *held], [name], b"Conv", single))
            source = name
            if node is first:
                new.append(Node([name], [name + b".relu"], b"Relu"))
                source = name + b".relu"
        new.append(Node([source], last.outputs, b"DepthToSpace", [attribute(b"blocksize", 4)]))
        network.replace([first, add, relu, second, last], new)


def stay_in_blocks(network: Network) -> None:
    """A gated map that is added to what a convolution makes of it goes there through a pooling of single pixels, which
    does nothing but has a form in blocks: the sum then is the convolution's own, and not a layer. To the same bits."""
    for gated in [node for node in network.nodes if node.op_type == b"Mul"]:
        gate = network.maker(gated.inputs[1])
        users = network.users(gated.outputs[0])
        adds = [node for node in users if node.op_type == b"Add" and _adds_convolution(network, node, gated.outputs[0])]
        convolved = [node for node in users if node.op_type == b"Conv"]
        if gate is None or gate.op_type not in GATES or len(adds) != 1 or not convolved:
            continue
        same = Node(gated.outputs, [gated.outputs[0] + b".same"], b"MaxPool", [attribute(b"kernel_shape", [1, 1])])
        adds[0].inputs = [same.outputs[0] if name == gated.outputs[0] else name for name in adds[0].inputs]
        network.replace([gated], [gated, same])


def _weights_of_one_group(network: Network, conv: Node) -> Weights | None:
    if conv.op_type != b"Conv" or conv.ints.get(b"group", [1]) != [1]:
        return None
    weights = network.weights(conv.inputs[1])
    return weights if weights is not None and weights.ndim == 4 else None


def _channels(network: Network, tensor: bytes) -> int | None:
    """How many a map has, where a convolution not far before it tells."""
    node = network.maker(tensor)
    while node is not None and node.op_type in SAME_SHAPE:
        node = network.maker(node.inputs[0])
    weights = node and _weights_of_one_group(network, node)
    return len(weights) if isinstance(weights, np.ndarray) else None


def _bias(network: Network, node: Node | None, tensor: bytes) -> Weights | None:
    """What a layer adds to each channel of a tensor, as (C,); None for any other layer."""
    if node is None or node.op_type != b"Add" or node.inputs[0] != tensor:
        return None
    level = network.weights(node.inputs[1])
    if level is None or level.ndim != 4 or level.size != level.shape[1]:
        return None
    plain = level.size == _channels_made(network, tensor)  # one for all is no bias
    return level.reshape(-1) if plain else None


def _channels_made(network: Network, tensor: bytes) -> int | None:
    """Of the convolution that a tensor comes from, by layers that keep its channels; None for another's."""
    node = network.maker(tensor)
    while node is not None and node.op_type in SAME_SHAPE:
        node = network.maker(node.inputs[0])
    weights = network.weights(node.inputs[1]) if node is not None and node.op_type.startswith(b"Conv") else None
    if node is None or weights is None:
        return None
    channels: int = weights.shape[0 if node.op_type == b"Conv" else 1]
    return channels


def _biased(network: Network, node: Node) -> Node | None:
    following = network.only_user(node.outputs[0])
    return following if _bias(network, following, node.outputs[0]) is not None else None


def _followers(network: Network, conv: Node) -> tuple[list[Node], list[Node]] | None:
    """Layers that keep a convolution's channels, and the convolutions that take them; None where others do too."""
    layers: list[Node] = []
    takers: list[Node] = []
    waiting = list(conv.outputs)
    while waiting:
        tensor = waiting.pop()
        users = network.users(tensor)
        if not users or tensor in network.outputs:
            return None
        for node in users:
            if node.op_type == b"Conv" and node.inputs[0] == tensor and tensor not in node.inputs[1:]:
                if _weights_of_one_group(network, node) is None:
                    return None
                takers.append(node)
            elif _bias(network, node, tensor) is not None or node.op_type in (b"Relu", b"MaxPool"):
                layers.append(node)
                waiting += node.outputs
            else:
                return None
    return layers, takers


def _widen(network: Network, node: Node, place: int, axis: int, more: int) -> None:
    """Zeros at the end of an axis of a node's weights."""
    weights = network.weights(node.inputs[place])
    if weights is None:
        raise ValueError("no plain weights")
    pads = [(0, more if index == axis else 0) for index in range(weights.ndim)]
    node.inputs[place] = network.add_weights(node.inputs[place], np.pad(weights, pads))


def _doubles(network: Network, node: Node) -> Weights | None:
    """(from, to, 2, 2) weights of a layer that enlarges each pixel to four of its own."""
    known = {b"kernel_shape", b"strides", b"pads", b"dilations", b"group", b"output_padding"}
    ints = node.ints
    if node.op_type != b"ConvTranspose" or len(node.inputs) != 2 or not set(ints) <= known | {b"auto_pad"}:
        return None
    plain = ints.get(b"strides") == [2, 2] and set(ints.get(b"pads", [0])) | set(ints.get(b"output_padding", [0])) == {
        0
    }
    single = set(ints.get(b"dilations", [1])) | set(ints.get(b"group", [1])) == {1}
    weights = network.weights(node.inputs[1])
    if weights is None or weights.shape[2:] != (2, 2) or not plain or not single:
        return None
    return weights if node.strings.get(b"auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") else None


def _adds_convolution(network: Network, add: Node, gated: bytes) -> bool:
    """Whether a layer adds a gated map and what a convolution, with its bias, made."""
    [other] = [name for name in add.inputs if name != gated] or [gated]
    node = network.maker(other)
    if node is not None and node.op_type == b"Add":
        node = network.maker(node.inputs[0])
    return node is not None and node.op_type == b"Conv" and other != gated
