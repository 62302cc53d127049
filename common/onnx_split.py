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
ATTRIBUTE_NAME, INT, STRING, INTS = 1, 3, 4, 8
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
    strings: dict[bytes, bytes]


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

    Everything before the cut must look at a few pixels around each alone, in a way known here, and a single
    tensor must cross it: no constant either. The file's metadata goes with both.
    """
    try:
        outer = list(fields(model))
        [graph] = [content for number, _, content in outer if number == GRAPH]
        inner = list(fields(graph))
        nodes = [_node(content) for number, _, content in inner if number == NODE]
        weights = {_text(content, TENSOR_NAME) for number, _, content in inner if number == INITIALIZER}
        given = [_text(content, VALUE_NAME) for number, _, content in inner if number == GRAPH_INPUT]
        [image] = [name for name in given if name not in weights]
        wanted = {_text(content, VALUE_NAME) for number, _, content in inner if number == GRAPH_OUTPUT}
        place = _place(nodes, image, wanted)
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


def _place(nodes: Sequence[_Node], image: bytes, wanted: set[bytes]) -> tuple[int, bytes, int] | None:
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


def _window(node: _Node) -> tuple[int, int]:
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
    node = _Node([], [], b"", {}, {})
    for number, _, value in fields(content):
        if number == INPUT:
            node.inputs.append(value)
        elif number == OUTPUT:
            node.outputs.append(value)
        elif number == OP_TYPE:
            node.op_type = value
        elif number == ATTRIBUTE:
            name = _text(value, ATTRIBUTE_NAME)
            node.ints[name], node.strings[name] = list(_ints(value)), _text(value, STRING)
    return node


def _ints(attribute: bytes) -> Iterator[int]:
    for number, kind, value in fields(attribute):
        if number not in (INT, INTS):
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
