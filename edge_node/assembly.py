"""Parts of results back into whole ones, within one attempt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from common.channel import MAX_MESSAGE_BYTES
from common.errors import CorruptImage
from common.frame import Priority
from common.subjects import HEADER_BYTES, HEADER_MESSAGE_ID, HEADER_PART

M = TypeVar("M")
KEY_LENGTH = 200  # of edge/session/sequence/attempt, at most
MAX_PARTS = 65_536
PART_OVERHEAD_BYTES = 1024  # what a part takes beside its data: many that are empty are not for nothing


@dataclass(frozen=True, slots=True)
class Part:
    """One message: a slice of one serialised result, `index` from 1."""

    key: str  # edge/session/sequence/attempt
    index: int
    count: int
    total_bytes: int
    data: bytes

    @property
    def edge(self) -> str:
        return self.key.split("/")[0]

    @property
    def session(self) -> str:
        return self.key.split("/")[1]


def part_of(headers: Mapping[str, str], data: bytes) -> Part:
    """Read a message's headers. Raises CorruptImage when they do not hold together."""
    try:
        key, number = headers[HEADER_MESSAGE_ID].rsplit("/", 1)
        index, count = (int(value) for value in headers[HEADER_PART].split("/"))
        total_bytes = int(headers[HEADER_BYTES])
        if key.count("/") != 3 or int(number) != index or not 1 <= index <= count <= MAX_PARTS:
            raise ValueError
        if len(key) > KEY_LENGTH or not len(data) <= total_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError
    except (KeyError, ValueError):
        names = (HEADER_MESSAGE_ID, HEADER_PART, HEADER_BYTES)
        kept = {name: headers.get(name, "")[:KEY_LENGTH] for name in names}
        raise CorruptImage(f"a message is no part of a result: {kept}") from None
    return Part(key, index, count, total_bytes, data)


@dataclass(slots=True, eq=False)
class Assembly(Generic[M]):
    """The parts of one result that are here, and the messages that brought them."""

    key: str
    priority: Priority
    count: int
    total_bytes: int
    changed_s: float
    parts: dict[int, bytes] = field(default_factory=dict)
    messages: list[M] = field(default_factory=list)
    size: int = 0  # of memory, about

    def body(self) -> bytes:
        """The whole body. Raises CorruptImage when it is not as long as was announced."""
        body = b"".join(self.parts[index] for index in range(1, self.count + 1))
        if len(body) != self.total_bytes:
            raise CorruptImage(f"result {self.key} has {len(body)} bytes, {self.total_bytes} were announced")
        return body


class Assembler(Generic[M]):
    """Collects parts; bounded in bytes.

    What must be forgotten, of the least urgent and oldest first, is returned: its messages need an answer too.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._assemblies: dict[str, Assembly[M]] = {}

    def __len__(self) -> int:
        return len(self._assemblies)

    def __iter__(self) -> Iterator[Assembly[M]]:
        return iter(self._assemblies.values())

    def add(
        self, part: Part, message: M, priority: Priority, now_s: float
    ) -> tuple[Assembly[M] | None, list[Assembly[M]]]:
        """Add a part; returns the result if that completes it, and what was forgotten for it."""
        forgotten: list[Assembly[M]] = []
        found = self._assemblies.get(part.key)
        if found is not None and (found.count, found.total_bytes) != (part.count, part.total_bytes):
            forgotten.append(self._take_out(part.key))  # cut anew: the old parts do not fit
            found = None
        if found is None:
            found = Assembly(part.key, priority, part.count, part.total_bytes, now_s)
            self._assemblies[part.key] = found
        more = len(part.data) - len(found.parts.get(part.index, b"")) + PART_OVERHEAD_BYTES
        found.size += more
        self.held_bytes += more
        found.parts[part.index] = part.data
        found.messages.append(message)
        found.changed_s = now_s
        if len(found.parts) == found.count:
            return self._take_out(part.key), forgotten
        if self.held_bytes > self.limit_bytes:
            for old in sorted(self, key=lambda assembly: (-assembly.priority, assembly.changed_s)):
                forgotten.append(self._take_out(old.key))
                if self.held_bytes <= self.limit_bytes:
                    break
        return None, forgotten

    def _take_out(self, key: str) -> Assembly[M]:
        assembly = self._assemblies.pop(key)
        self.held_bytes -= assembly.size
        return assembly

    def forget_stale(self, before_s: float) -> list[Assembly[M]]:
        """Take out what got no part since."""
        stale = [assembly for assembly in self if assembly.changed_s < before_s]
        return [self._take_out(assembly.key) for assembly in stale]
