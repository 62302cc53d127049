"""Parts of results back into whole ones, within one attempt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from common.errors import CorruptImage
from common.frame import Priority
from common.subjects import HEADER_BYTES, HEADER_MESSAGE_ID, HEADER_PART

M = TypeVar("M")


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
        if key.count("/") != 3 or int(number) != index or not 1 <= index <= count:
            raise ValueError
    except (KeyError, ValueError):
        kept = {name: headers.get(name) for name in (HEADER_MESSAGE_ID, HEADER_PART, HEADER_BYTES)}
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

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))

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
            forgotten.append(self._assemblies.pop(part.key))  # cut anew: the old parts do not fit
            found = None
        if found is None:
            found = Assembly(part.key, priority, part.count, part.total_bytes, now_s)
            self._assemblies[part.key] = found
        found.parts[part.index] = part.data
        found.messages.append(message)
        found.changed_s = now_s
        if len(found.parts) == found.count:
            del self._assemblies[part.key]
            return found, forgotten
        held = sum(assembly.size for assembly in self)
        for old in sorted(self, key=lambda assembly: (-assembly.priority, assembly.changed_s)):
            if held <= self.limit_bytes:
                break
            held -= old.size
            forgotten.append(self._assemblies.pop(old.key))
        return None, forgotten

    def forget_stale(self, before_s: float) -> list[Assembly[M]]:
        """Take out what got no part since."""
        stale = [assembly for assembly in self if assembly.changed_s < before_s]
        for assembly in stale:
            del self._assemblies[assembly.key]
        return stale
