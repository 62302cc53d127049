"""Cut a network in two where its early, large layers end, so that these can run on one band of the image at a time.

Works on the file's bytes, for the edge has no package that edits ONNX. Field numbers are those of onnx.proto.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# ModelProto.graph; GraphProto; NodeProto; AttributeProto; TensorProto and ValueInfoProto
GRAPH: Final = 7
NODE, INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, VALUE_INFO = 1, 5, 11, 12, 13
INPUT, OUTPUT, OP_TYPE, ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_NAME, INTS = 1, 8
TENSOR_NAME, VALUE_NAME = 8, 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protobuf
FLOAT: Final = 1  # TensorProto.DataType

LOCAL: Final = {b"Conv", b"Add", b"Relu", b"MaxPool", b"Concat", b"Identity", b"Constant"}  # see a few pixels around
STEM_STRIDE: Final = 4
Field = tuple[int, int, bytes]  # number, wire type, content; of a varint its own bytes


@dataclass(frozen=True, slots=True)
class Halves:
    """A network as two: run `stem`, give its output `seam` to `body`."""

    stem: bytes
    body: bytes
    seam: str
    reach: int  # pixels of the input, at most, from which a value of the seam takes anything


@dataclass(slots=True)
class _Node:
    inputs: list[bytes]
    outputs: list[bytes]
    op_type: bytes
    ints: dict[bytes, list[int]]


def fields(data: bytes | memoryview) -> Iterator[Field]:
    """The fields of a protobuf message in their order. Raises ValueError, IndexError for what is none."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            start, (_, at) = at, _varint(data, at)
        else:
            length, start = _varint(data, at) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}.get(kind, end), at)
            at = start + length
        if at > end:
            raise ValueError("no protobuf")
        yield key >> 3, kind, bytes(data[start:at])


def halves(model: bytes) -> Halves | None:
    """The network cut after its stem, the layers up to a quarter of the image's size; None where it has no such place.

    Everything before the cut must look at a few pixels around each alone, and a single tensor must cross it. The file's
    metadata goes with both.
    """
    try:
        outer = list(fields(model))
        [graph] = [content for number, _, content in outer if number == GRAPH]
        inner = list(fields(graph))
        nodes = [_node(content) for number, _, content in inner if number == NODE]
        weights = {_text(content, TENSOR_NAME) for number, _, content in inner if number == INITIALIZER}
        given = [_text(content, VALUE_NAME) for number, _, content in inner if number == GRAPH_INPUT]
        [image] = [name for name in given if name not in weights]
        place = _place(nodes, weights, image)
    except (IndexError, ValueError):
        return None
    if place is None:
        return None
    count, seam, reach = place
    stem = _part(inner, nodes, range(count), [(GRAPH_OUTPUT, seam)])
    body = _part(inner, nodes, range(count, len(nodes)), [(GRAPH_INPUT, seam)])
    around = [field for field in outer if field[0] != GRAPH]
    whole = [_message([*around, (GRAPH, BYTES, part)]) for part in (stem, body)]
    return Halves(whole[0], whole[1], seam.decode(), reach)


def _place(nodes: Sequence[_Node], weights: set[bytes], image: bytes) -> tuple[int, bytes, int] | None:
    """How many nodes the stem has, the tensor that leaves it, and its reach."""
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    stride, reach = {image: 1}, {image: 0}
    for index, node in enumerate(nodes):
        if node.op_type not in LOCAL:
            return None
        sources = [name for name in node.inputs if name in stride]
        scale = max((stride[name] for name in sources), default=1)
        wide = max(node.ints.get(b"kernel_shape", [1]))
        for name in node.outputs if sources else ():
            stride[name] = scale * max(node.ints.get(b"strides", [1]))
            reach[name] = max(reach[source] for source in sources) + scale * (wide - 1)
        crossing = [name for name in stride if last.get(name, -1) > index]
        follows = [other.op_type for other in nodes[index + 1 :] if set(crossing) & set(other.inputs)]
        if len(crossing) == 1 and stride[crossing[0]] == STEM_STRIDE and set(follows) == {b"Conv"}:
            return index + 1, crossing[0], reach[crossing[0]]
    return None


def _part(inner: Sequence[Field], nodes: Sequence[_Node], kept: range, seam: Sequence[tuple[int, bytes]]) -> bytes:
    used = {name for index in kept for name in nodes[index].inputs}
    replaced = {number for number, _ in seam}
    made, index = [], -1
    for number, kind, content in inner:
        index += number == NODE
        if (
            (number == NODE and index not in kept)
            or (number == INITIALIZER and _text(content, TENSOR_NAME) not in used)
            or number == VALUE_INFO  # of tensors that may be elsewhere now
            or number in replaced
        ):
            continue
        made.append((number, kind, content))
    return _message([*made, *((number, BYTES, _image_like(name)) for number, name in seam)])


def _image_like(name: bytes) -> bytes:
    """ValueInfoProto of a float tensor with four dimensions of any size."""
    shape = b"".join(_message([(1, BYTES, _message([(2, BYTES, name + b".%d" % axis)]))]) for axis in range(4))
    tensor = _message([(1, VARINT, bytes([FLOAT])), (2, BYTES, shape)])
    return _message([(VALUE_NAME, BYTES, name), (2, BYTES, _message([(1, BYTES, tensor)]))])


def _node(content: bytes) -> _Node:
    node = _Node([], [], b"", {})
    for number, _, value in fields(content):
        if number == INPUT:
            node.inputs.append(value)
        elif number == OUTPUT:
            node.outputs.append(value)
        elif number == OP_TYPE:
            node.op_type = value
        elif number == ATTRIBUTE:
            node.ints[_text(value, ATTRIBUTE_NAME)] = list(_ints(value))
    return node


def _ints(attribute: bytes) -> Iterator[int]:
    for number, kind, value in fields(attribute):
        if number != INTS:
            continue
        at = 0
        while at < len(value):  # one, or several in a packed field
            found, at = _varint(value, at)
            yield found
            if kind == VARINT:
                break


def _text(message: bytes, wanted: int) -> bytes:
    return next((content for number, kind, content in fields(message) if number == wanted and kind == BYTES), b"")


def _message(parts: Sequence[Field]) -> bytes:
    made = bytearray()
    for number, kind, content in parts:
        made += _as_varint(number << 3 | kind)
        if kind == BYTES:
            made += _as_varint(len(content))
        made += content
    return bytes(made)


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def _as_varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
