"""How results lie in NATS: subjects, streams, consumers, and messages with their headers (see docs/results.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from common.errors import SettingsError, TransportError
from common.frame import Priority

SUBJECT = "lamplight.results"
EDGE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ESSENTIAL_STREAM = "lamplight-essential"
OTHER_STREAM = "lamplight-results"
ACK_WAIT_S = 15.0  # the edge says that it is still at work every third of this
PART_BYTES = 512 * 1024
MIN_ROOM_BYTES = 1024
USUAL_HEADER_BYTES = 4096  # headers above this are at fault when there is no room for a body
HEADER_MESSAGE_ID = "Nats-Msg-Id"
HEADER_FRAME = "Lamplight-Frame"
HEADER_PRIORITY = "Lamplight-Priority"
HEADER_PART = "Lamplight-Part"
HEADER_BYTES = "Lamplight-Bytes"


class PublishRefused(TransportError):
    """NATS will never take this message; trying again does not help."""


class Consumer(NamedTuple):
    """A durable pull consumer of one edge and priority."""

    priority: Priority
    stream: str
    name: str


@dataclass(frozen=True, slots=True)
class Message:
    """One part, ready to send."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


def stream_of(priority: Priority) -> str:
    """Essential results are kept on file, the others in memory."""
    return ESSENTIAL_STREAM if priority is Priority.ESSENTIAL else OTHER_STREAM


def check_edge(edge: str) -> str:
    """The edge's name if it can be part of a subject. Raises SettingsError otherwise."""
    if not EDGE_NAME.fullmatch(edge):
        raise SettingsError(f"edge name {edge!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
    return edge


def subject_of(edge: str, priority: Priority) -> str:
    """lamplight.results.<edge>.<priority>. Raises SettingsError for an edge name that is no subject token."""
    return f"{SUBJECT}.{check_edge(edge)}.{priority.name.lower()}"


def consumer_of(edge: str, priority: Priority) -> Consumer:
    return Consumer(priority, stream_of(priority), f"{check_edge(edge)}-{priority.name.lower()}")


def header_bytes(headers: Mapping[str, str]) -> int:
    """Bytes that NATS headers take on the wire."""
    return 12 + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())


def split(
    edge: str,
    priority: Priority,
    body: bytes,
    message_id: str,
    headers: Mapping[str, str],
    *,
    max_payload: int,
    part_bytes: int,
) -> list[Message]:
    """Cut a body into messages of at most `part_bytes`, and with headers at most 90 % of `max_payload`.

    Each part has its own message id, `message_id/part`, its place, `part/parts` from 1, and the whole body's size.

    Raises:
        SettingsError: the edge name is no subject token.
        PublishRefused: the headers are too large, or the server's max_payload is too small.
    """
    subject = subject_of(edge, priority)
    base = {**headers, HEADER_PRIORITY: priority.name.lower(), HEADER_BYTES: str(len(body))}
    longest = {**base, HEADER_MESSAGE_ID: f"{message_id}/99999", HEADER_PART: "99999/99999"}
    room = max_payload * 9 // 10 - header_bytes(longest)
    if room < MIN_ROOM_BYTES:
        raise PublishRefused(_no_room(longest, max_payload))
    room = min(part_bytes, room)
    count = max(1, -(-len(body) // room))
    return [
        Message(
            subject,
            body if count == 1 else body[index * room : (index + 1) * room],
            {**base, HEADER_MESSAGE_ID: f"{message_id}/{index + 1}", HEADER_PART: f"{index + 1}/{count}"},
        )
        for index in range(count)
    ]


def _no_room(headers: Mapping[str, str], max_payload: int) -> str:
    size = header_bytes(headers)
    if size <= USUAL_HEADER_BYTES:
        return f"the NATS server's max_payload, {max_payload} bytes, is too small: raise it to 1 MiB"
    largest = max(headers, key=lambda name: len(headers[name]))
    return (
        f"the message's headers take {size} bytes, too many for the NATS server's max_payload of {max_payload}: "
        f"{largest} alone has {len(headers[largest].encode())}, shorten it"
    )
