"""How a frame travels to a peer: whose it is, then the same message that a cloud node gets. Imports no torch."""

from common import wire
from common.frame import Frame
from lamplight.v1 import frame_pb2

NAME_BYTES = 160  # before the serialised frame: "edge session", filled up with blanks


def body_of(frame: Frame) -> bytes:
    """The bytes to send."""
    name = f"{frame.id.edge} {frame.id.session}".encode().ljust(NAME_BYTES)
    return name + wire.frame_to_proto(frame).SerializeToString()


def frame_of(body: bytes) -> Frame:
    """Undo `body_of`."""
    edge, session = body[:NAME_BYTES].decode().split()
    return wire.frame_from_proto(frame_pb2.Frame.FromString(body[NAME_BYTES:]), edge, session)
