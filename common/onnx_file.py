"""ONNX files read and written as bytes: the edge has no package that edits them. Numbers are those of onnx.proto."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

# ModelProto.graph; GraphProto; NodeProto; AttributeProto; TensorProto and ValueInfoProto
GRAPH: Final = 7
NODE, INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, VALUE_INFO = 1, 5, 11, 12, 13
INPUT, OUTPUT, NODE_NAME, OP_TYPE, ATTRIBUTE, DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, INT, STRING, A_GRAPH, INTS, GRAPHS, ATTRIBUTE_TYPE = 1, 3, 4, 6, 8, 11, 20
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9
VALUE_NAME: Final = 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protobuf
FLOAT: Final = 1  # TensorProto.DataType
AN_INT, SOME_INTS = 2, 7  # AttributeProto.AttributeType

Field = tuple[int, int, bytes]  # number, wire type, content; of a varint its own bytes
Weights = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(slots=True)
class Node:
    """One layer. `attributes` are those whole; `ints` and `strings` are what they hold of these types, by name.

    The `op_type` of a layer that is none of ONNX's own begins with its domain: "com.microsoft::Conv".
    """

    inputs: list[bytes]
    outputs: list[bytes]
    op_type: bytes
    attributes: list[bytes] = field(default_factory=list)
    others: list[Field] = field(default_factory=list)  # as name and domain
    content: bytes = b""  # as it was read

    @property
    def ints(self) -> dict[bytes, list[int]]:
        return {text(one, ATTRIBUTE_NAME): list(_ints(one)) for one in self.attributes}

    @property
    def strings(self) -> dict[bytes, bytes]:
        return {text(one, ATTRIBUTE_NAME): text(one, STRING) for one in self.attributes}

    @classmethod
    def read(cls, content: bytes) -> "Node":
        node, domain = cls([], [], b"", content=content), b""
        for number, kind, value in fields(content):
            if number == INPUT:
                node.inputs.append(value)
            elif number == OUTPUT:
                node.outputs.append(value)
            elif number == OP_TYPE:
                node.op_type = value
            elif number == ATTRIBUTE:
                node.attributes.append(value)
            else:
                node.others.append((number, kind, value))
                domain = value if number == DOMAIN else domain
        if domain not in (b"", b"ai.onnx"):
            node.op_type = domain + b"::" + node.op_type
        return node

    @property
    def changed(self) -> bool:
        """Whether it is another than was read."""
        return not self.content or self != Node.read(self.content)

    def written(self) -> bytes:
        """As it was read where it is not changed. Without a name it gets that of what it makes: ONNX Runtime's profiles
        then tell the layers apart."""
        if not self.changed:
            return self.content
        parts = [(INPUT, one) for one in self.inputs] + [(OUTPUT, one) for one in self.outputs]
        if all(number != NODE_NAME for number, _, _ in self.others):
            parts.append((NODE_NAME, self.outputs[0]))
        parts += [(OP_TYPE, self.op_type.rpartition(b"::")[2]), *((ATTRIBUTE, one) for one in self.attributes)]
        return message([*((number, BYTES, value) for number, value in parts), *self.others])


class Network:
    """A model whose nodes and weights can be changed.

    Raises:
        ValueError, IndexError: it is none, its layers are not in their order, or there are graphs within it, whose
            layers use tensors without saying so here.
    """

    def __init__(self, model: bytes) -> None:
        self._outer = list(fields(model))
        [graph] = [content for number, _, content in self._outer if number == GRAPH]
        inner = list(fields(graph))
        self._rest = [one for one in inner if one[0] not in (NODE, INITIALIZER)]
        self.nodes = [Node.read(content) for number, _, content in inner if number == NODE]
        if any(
            number in (A_GRAPH, GRAPHS) for node in self.nodes for one in node.attributes for number, *_ in fields(one)
        ):
            raise ValueError("graphs within it")
        if not self._in_order():
            raise ValueError("layers in no order")
        self._read = [node.content for node in self.nodes]
        self._weights = {text(content, TENSOR_NAME): content for number, _, content in inner if number == INITIALIZER}
        self.outputs = {text(content, VALUE_NAME) for number, _, content in self._rest if number == GRAPH_OUTPUT}

    @property
    def changed(self) -> bool:
        """Whether a layer is another than was read, or elsewhere."""
        return [node.content for node in self.nodes] != self._read or any(node.changed for node in self.nodes)

    def written(self) -> bytes:
        """The file, without the weights that no node uses any more."""
        used = {name for node in self.nodes for name in node.inputs} | self.outputs
        graph = [(NODE, BYTES, node.written()) for node in self.nodes]
        graph += [(INITIALIZER, BYTES, content) for name, content in self._weights.items() if name in used]
        graph += [
            (number, kind, content)
            for number, kind, content in self._rest
            if number != VALUE_INFO  # of tensors that may be others now
            and not (number == GRAPH_INPUT and text(content, VALUE_NAME) in self._weights)  # nobody gives those
        ]
        return message([*(one for one in self._outer if one[0] != GRAPH), (GRAPH, BYTES, message(graph))])

    def weights(self, name: bytes) -> Weights | None:
        """float32 weights of that name, a view; None where there are none that are stored plainly."""
        content = self._weights.get(name)
        if content is None:
            return None
        found = {number: value for number, _, value in fields(content)}
        if found.get(DATA_TYPE) != bytes([FLOAT]) or RAW_DATA not in found:
            return None
        shape = [
            size
            for number, kind, value in fields(content)
            if number == DIMS
            for size in ((varint(value, 0)[0],) if kind == VARINT else _packed(value))
        ]
        return np.frombuffer(found[RAW_DATA], "<f4").reshape(shape)

    def add_weights(self, name: bytes, values: Weights) -> bytes:
        """`name`, or one like it that is free, now of these weights."""
        while name in self._weights:
            name += b"'"
        self.set_weights(name, values)
        return name

    def set_weights(self, name: bytes, values: Weights) -> None:
        """These weights of that name, whether there were others or none."""
        dims = [(DIMS, VARINT, as_varint(size)) for size in values.shape]
        parts = [*dims, (DATA_TYPE, VARINT, bytes([FLOAT])), (TENSOR_NAME, BYTES, name)]
        self._weights[name] = message([*parts, (RAW_DATA, BYTES, np.ascontiguousarray(values, "<f4").tobytes())])

    def _in_order(self) -> bool:
        """Whether each layer takes what was made before it: where they go in circles nobody would find an end."""
        later = [name for node in self.nodes for name in node.outputs if name]
        known = len(set(later)) == len(later)
        waiting = set(later)
        for node in self.nodes:
            known &= waiting.isdisjoint(node.inputs)
            waiting -= set(node.outputs)
        return known

    def users(self, tensor: bytes) -> list[Node]:
        return [node for node in self.nodes if tensor in node.inputs]

    def maker(self, tensor: bytes) -> Node | None:
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def only_user(self, tensor: bytes) -> Node | None:
        """The node that takes a tensor which nobody else takes, nor is given to the caller."""
        users = self.users(tensor)
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def replace(self, old: Sequence[Node], new: Sequence[Node]) -> None:
        """New nodes in place of the last of the old ones."""
        at = max(index for index, node in enumerate(self.nodes) if any(node is one for one in old))
        kept = [[node for node in part if all(node is not one for one in old)]
                for part in (self.nodes[:at], self.nodes[at:])]  # fmt: skip
        self.nodes = [*kept[0], *new, *kept[1]]


def attribute(name: bytes, value: int | Sequence[int]) -> bytes:
    """AttributeProto of one whole number, or several."""
    one = isinstance(value, int)
    numbers = [value] if isinstance(value, int) else list(value)
    held = [(INT if one else INTS, VARINT, as_varint(number)) for number in numbers]
    return message(
        [(ATTRIBUTE_NAME, BYTES, name), *held, (ATTRIBUTE_TYPE, VARINT, bytes([AN_INT if one else SOME_INTS]))]
    )


def fields(data: bytes | memoryview) -> Iterator[Field]:
    """The fields of a protobuf message in their order. Raises ValueError, IndexError for what is none."""
    for number, kind, part in spans(data, slice(0, len(data))):
        yield number, kind, bytes(data[part])


def spans(data: bytes | bytearray | memoryview, within: slice) -> Iterator[tuple[int, int, slice]]:
    """As `fields`, of a message within others, with the part of the data that each content is."""
    at, end = within.start, within.stop
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if kind == VARINT:
            start, (_, at) = at, varint(data, at)
        else:
            length, start = varint(data, at) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}.get(kind, end + 1), at)
            at = start + length
        if at > end:
            raise ValueError("no protobuf")
        yield key >> 3, kind, slice(start, at)


def text(content: bytes, wanted: int) -> bytes:
    """The first bytes or text of a message under that number; empty where there are none."""
    return next((value for number, kind, value in fields(content) if number == wanted and kind == BYTES), b"")


def message(parts: Sequence[Field]) -> bytes:
    made = bytearray()
    for number, kind, content in parts:
        made += as_varint(number << 3 | kind)
        if kind == BYTES:
            made += as_varint(len(content))
        made += content
    return bytes(made)


def varint(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """A number and the place after it. Raises ValueError, IndexError for what is none."""
    value = shift = 0
    while shift < 64:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("no protobuf")


def as_varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def _ints(content: bytes) -> Iterator[int]:
    for number, kind, value in fields(content):
        if number in (INT, INTS):
            yield from (varint(value, 0)[0],) if kind == VARINT else _packed(value)


def _packed(value: bytes) -> Iterator[int]:
    at = 0
    while at < len(value):
        found, at = varint(value, at)
        yield found
