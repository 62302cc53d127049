"""Cut a network in two where its early, large layers end, so that these can run on one band of the image at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common.onnx_file import (
    BYTES,
    FLOAT,
    GRAPH,
    GRAPH_INPUT,
    GRAPH_OUTPUT,
    INITIALIZER,
    NODE,
    TENSOR_NAME,
    VALUE_INFO,
    VALUE_NAME,
    VARINT,
    Field,
    Node,
    fields,
    message,
    text,
)  # fmt: skip

LOCAL: Final = {b"Conv", b"Add", b"Relu", b"MaxPool", b"Concat", b"Identity", b"Constant"}  # see a few pixels around
STEM_STRIDE: Final = 4


@dataclass(frozen=True, slots=True)
class Halves:
    """A network as two: run `stem`, give its output `seam` to `body`."""

    stem: bytes
    body: bytes
    seam: str
    reach: int  # pixels of the input, at most, from which a value of the seam takes anything


def halves(model: bytes) -> Halves | None:
    """The network cut after its stem, the layers up to a quarter of the image's size; None where it has no such place.

    Everything before the cut must look at a few pixels around each alone, in a way known here, and a single
    tensor must cross it: no constant either. The file's metadata goes with both.
    """
    try:
        outer = list(fields(model))
        [graph] = [content for number, _, content in outer if number == GRAPH]
        inner = list(fields(graph))
        nodes = [Node.read(content) for number, _, content in inner if number == NODE]
        weights = {text(content, TENSOR_NAME) for number, _, content in inner if number == INITIALIZER}
        given = [text(content, VALUE_NAME) for number, _, content in inner if number == GRAPH_INPUT]
        [image] = [name for name in given if name not in weights]
        wanted = {text(content, VALUE_NAME) for number, _, content in inner if number == GRAPH_OUTPUT}
        place = _place(nodes, image, wanted)
    except (IndexError, ValueError):
        return None
    if place is None:
        return None
    count, seam, reach = place
    stem = _part(inner, nodes, range(count), [(GRAPH_OUTPUT, seam)])
    body = _part(inner, nodes, range(count, len(nodes)), [(GRAPH_INPUT, seam)])
    around = [field for field in outer if field[0] != GRAPH]
    whole = [message([*around, (GRAPH, BYTES, part)]) for part in (stem, body)]
    return Halves(whole[0], whole[1], seam.decode(), reach)


def _place(nodes: Sequence[Node], image: bytes, wanted: set[bytes]) -> tuple[int, bytes, int] | None:
    """How many nodes the stem has, the tensor that leaves it, and its reach; `wanted` leaves the network itself."""
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs} | dict.fromkeys(wanted, len(nodes))
    stride, reach, made = {image: 1}, {image: 0}, {image}
    for index, node in enumerate(nodes):
        if node.op_type not in LOCAL:
            return None
        made |= set(node.outputs)
        sources = [name for name in node.inputs if name in stride]
        scale = max((stride[name] for name in sources), default=1)
        wide, step = _window(node)
        for name in node.outputs if sources else ():
            stride[name] = scale * step
            reach[name] = max(reach[source] for source in sources) + scale * (wide - 1)
        crossing = [name for name in made if last.get(name, -1) > index]
        follows = [other.op_type for other in nodes[index + 1 :] if set(crossing) & set(other.inputs)]
        if len(crossing) == 1 and stride.get(crossing[0]) == STEM_STRIDE and set(follows) == {b"Conv"}:
            return index + 1, crossing[0], reach[crossing[0]]
    return None


def _window(node: Node) -> tuple[int, int]:
    """How many pixels wide the square is that a layer looks at, at most, and its step. Raises ValueError where that is
    not known, or its output is not of its input's size over the step."""
    if node.op_type == b"Concat" and node.ints.get(b"axis") != [1]:
        raise ValueError("joins rows")
    if node.op_type not in (b"Conv", b"MaxPool"):
        return 1, 1
    sizes, steps = node.ints.get(b"kernel_shape", []), node.ints.get(b"strides", [1, 1])
    if len(sizes) != 2 or len(set(steps)) != 1 or set(node.ints.get(b"dilations", [1])) != {1}:
        raise ValueError("no plain window")
    pads, padding = node.ints.get(b"pads", [0] * 4), node.strings.get(b"auto_pad", b"NOTSET")
    added = [pads[0] + pads[2], pads[1] + pads[3]]
    if padding == b"NOTSET" and not all(k - steps[0] <= p < k for k, p in zip(sizes, added, strict=True)):
        raise ValueError("another size")
    if padding == b"VALID" and max(sizes) > steps[0]:
        raise ValueError("another size")
    return max(sizes), steps[0]


def _part(inner: Sequence[Field], nodes: Sequence[Node], kept: range, seam: Sequence[tuple[int, bytes]]) -> bytes:
    used = {name for index in kept for name in nodes[index].inputs}
    replaced = {number for number, _ in seam}
    weights = {text(content, TENSOR_NAME) for number, _, content in inner if number == INITIALIZER}
    made, index = [], -1
    for number, kind, content in inner:
        index += number == NODE
        if (
            (number == NODE and index not in kept)
            or (number == INITIALIZER and text(content, TENSOR_NAME) not in used)
            or (number == GRAPH_INPUT and text(content, VALUE_NAME) in weights)  # nobody gives those
            or number == VALUE_INFO  # of tensors that may be elsewhere now
            or number in replaced
        ):
            continue
        made.append((number, kind, content))
    return message([*made, *((number, BYTES, _image_like(name)) for number, name in seam)])


def _image_like(name: bytes) -> bytes:
    """ValueInfoProto of a float tensor with four dimensions of any size."""
    shape = b"".join(message([(1, BYTES, message([(2, BYTES, name + b".%d" % axis)]))]) for axis in range(4))
    tensor = message([(1, VARINT, bytes([FLOAT])), (2, BYTES, shape)])
    return message([(VALUE_NAME, BYTES, name), (2, BYTES, message([(1, BYTES, tensor)]))])
