"""A kept frame as bytes: magic, checksum, lengths, a JSON description, then the protobuf Frame of the wire."""

import json
import struct
import zlib
from dataclasses import asdict, astuple, dataclass

from google.protobuf.message import DecodeError

from common import wire
from common.channel import MAX_MESSAGE_BYTES
from common.errors import CorruptImage, ImageError
from common.frame import Frame, FrameId
from common.packing import check_pixels
from lamplight.v1 import frame_pb2

MAGIC = b"LAMPSPL1"
_HEAD = struct.Struct("<8sIIQ")  # magic, CRC-32 of all that follows it, bytes of the description, bytes of the frame
DESCRIPTION_BYTES = 64 * 1024  # at most
RECORD_BYTES = MAX_MESSAGE_BYTES + 2 * DESCRIPTION_BYTES  # a larger file is none of ours


@dataclass(frozen=True, slots=True)
class Description:
    """What a reading says of a frame beside what the wire carries."""

    edge: str
    session: str
    sequence: int
    name: str  # the file or camera that it came from
    bytes_raw: int
    captured_unix_ns: int
    size: tuple[int, int] = (0, 0)  # width and height as captured; (0, 0) = as the frame
    sent_as: str = "lossless"  # what was given up for a slow link, in words

    @property
    def id(self) -> FrameId:
        return FrameId(self.edge, self.session, self.sequence)


_KINDS = (str, str, int, str, int, int, int, int, str)


def _values(description: Description) -> tuple[object, ...]:
    *most, size, sent_as = astuple(description)
    return (*most, *size, sent_as)


class CorruptRecord(CorruptImage):
    """A file of the spool is short, or not what was written."""


def encode(frame: Frame, described: Description) -> tuple[bytes, bytes]:
    """Head with description, and the frame; together they are the file."""
    description = json.dumps(asdict(described)).encode()
    body = wire.frame_to_proto(frame).SerializeToString()
    lengths = struct.pack("<IQ", len(description), len(body))
    checksum = zlib.crc32(body, zlib.crc32(description, zlib.crc32(lengths)))
    return _HEAD.pack(MAGIC, checksum, len(description), len(body)) + description, body


def decode(data: bytes) -> tuple[Frame, Description]:
    """Raises CorruptRecord."""
    magic, checksum, described, length = _head(data)
    if len(data) != _HEAD.size + described + length:
        raise CorruptRecord(f"it has {len(data)} bytes instead of {_HEAD.size + described + length}")
    if zlib.crc32(data[12:]) != checksum:
        raise CorruptRecord("its checksum is wrong")
    description = describe(data)
    try:
        message = frame_pb2.Frame.FromString(data[_HEAD.size + described :])
        return wire.frame_from_proto(message, description.edge, description.session), description
    except (DecodeError, ImageError) as error:  # whole, but of another version
        raise CorruptRecord(f"this version cannot read it: {error}") from None


def describe(data: bytes) -> Description:
    """The description from the beginning of a file, unchecked. Raises CorruptRecord when there is none."""
    _, _, described, _ = _head(data)
    try:
        fields = json.loads(data[_HEAD.size : _HEAD.size + described])
        width, height = fields["size"]
        description = Description(**fields | {"size": (width, height)})
        check_pixels(width, height)
        if any(type(value) is not kind for value, kind in zip(_values(description), _KINDS, strict=True)):
            raise TypeError("a value is of another type")
        return description
    except (ValueError, TypeError, KeyError, RecursionError, ImageError) as error:
        raise CorruptRecord(f"its description is broken: {error}") from None


def _head(data: bytes) -> tuple[bytes, int, int, int]:
    if len(data) < _HEAD.size:
        raise CorruptRecord(f"it has {len(data)} bytes, too few for anything")
    magic, checksum, described, length = _HEAD.unpack_from(data)
    if magic != MAGIC or described > DESCRIPTION_BYTES:
        raise CorruptRecord("it does not begin as a kept frame")
    return magic, checksum, described, length
