"""What is fed with whatever bytes: every parser that the network or a file reaches.

A target takes bytes and raises nothing: an error that the parser announces is caught here, any other is a finding, as
are a hang and memory beyond the bound. `seeds` gives inputs that are sound, to begin with.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

import numpy as np
from google.protobuf.message import DecodeError
from hand_edges import Front, good

from cloud_node.jobs import Encoding
from cloud_node.parts import Unfinished
from cloud_node.policy import Policy
from cloud_node.receiver import Receiver, Terms
from cloud_node.settings import CloudSettings, Limits
from common import packing, wire
from common.errors import ImageError, SettingsError
from common.frame import Frame, FrameId, Outcome, Priority, Result
from common.packing import ImageFormat
from common.pixels import PixelFormat, RawImage, content_size
from common.settings import _build, _former, _leaves, _read_file
from common.subjects import HEADER_BYTES, HEADER_MESSAGE_ID, HEADER_PART
from edge_node.assembly import Assembler, part_of
from edge_node.settings import EdgeSettings
from edge_node.spool import CorruptRecord, Description
from edge_node.spool.entry import from_file_name, now
from edge_node.spool.record import decode, encode
from edge_node.spool.settled import settled_ids
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import frame_pb2, result_pb2

MAX_PIXELS = 256 * 256  # so that what is slow is at fault, and not just large
LIMITS = Limits(max_pixels=MAX_PIXELS, max_queued_mib=1, max_queued=64)


@dataclass(frozen=True)
class Target:
    """One parser."""

    feed: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def framed(*pieces: bytes) -> bytes:
    """Several inputs as one: each behind its length."""
    return b"".join(len(piece).to_bytes(3, "little") + piece for piece in pieces)


def pieces(data: bytes) -> list[bytes]:
    """Undo `framed`, whatever the bytes are."""
    found, at = [], 0
    while at < len(data) and len(found) < 64:
        size = int.from_bytes(data[at : at + 3], "little")
        found.append(data[at + 3 : at + 3 + size])
        at += 3 + size
    return found


# --- a stream of an edge ---


def feed_frames(data: bytes) -> None:
    """Messages of an edge, as the cloud node takes them."""
    asyncio.run(_feed_frames(data))


async def _feed_frames(data: bytes) -> None:
    settings = CloudSettings(limits=LIMITS)
    front = Front(settings, Policy())
    stream = await front.streams.join("cam", "s")
    unfinished = Unfinished(2**20)
    terms = Terms(front.admission.policy, "fast", Encoding(ImageFormat.JPEG, 80))
    receiver = Receiver(stream, settings, front.admission, lambda: terms, lambda: "", unfinished)
    for piece in pieces(data):
        try:
            message = pb.EdgeMessage.FromString(piece)
        except DecodeError:
            break
        going_on = receiver._take(message)
        assert unfinished.held_bytes <= max(unfinished.limit_bytes, LIMITS.max_frame_bytes)
        if not going_on:
            break
        await asyncio.sleep(0)
    receiver._parts.clear()
    assert unfinished.held_bytes == 0
    assert len(stream._outbox) < 10_000
    if receiver._check is not None:
        receiver._check.cancel()


def frame_seeds() -> list[bytes]:
    frame = good(
        3, 32, 24, deadline_ms=500, trace=frame_pb2.TraceContext(traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    )
    whole = frame.SerializeToString()
    parts = [
        pb.EdgeMessage(
            part=frame_pb2.FramePart(sequence=3, index=index, count=2, total_bytes=len(whole), data=data)
        ).SerializeToString()
        for index, data in enumerate((whole[:100], whole[100:]))
    ]
    alive, close = (pb.EdgeMessage(alive=pb.Alive()), pb.EdgeMessage(close=pb.Close()))
    one = pb.EdgeMessage(frame=frame).SerializeToString()
    return [
        framed(one, one, alive.SerializeToString(), close.SerializeToString()),
        framed(*parts),
        framed(parts[0], one),
    ]


# --- pictures ---


def feed_packing(data: bytes) -> None:
    """A picture as it comes in a message: packed, or as a file."""
    try:
        image = pb.Image.FromString(data)
    except DecodeError:
        return
    with contextlib.suppress(ImageError):
        match image.WhichOneof("content"):
            case "packed":
                packed = wire.packed_from_proto(image.packed)
                raw = packing.unpack(packed, max_pixels=MAX_PIXELS)
                assert raw.data.size == content_size(raw.pixel_format, raw.width, raw.height)
                assert packing.to_rgb(raw).shape == (raw.height, raw.width, 3)
            case "encoded":
                encoded = wire.encoded_from_proto(image.encoded)
                rgb = packing.decode(encoded, max_pixels=MAX_PIXELS)
                assert rgb.dtype == np.uint8 and rgb.shape[0] * rgb.shape[1] <= MAX_PIXELS


@cache
def packing_seeds() -> list[bytes]:
    dice, found = np.random.default_rng(1), []
    for pixel_format in PixelFormat:
        width, height = 18, 13
        image = RawImage(
            dice.integers(0, 40, content_size(pixel_format, width, height), dtype=np.uint8), width, height, pixel_format
        )
        for error in (0, 2):
            found.append(pb.Image(packed=wire.packed_to_proto(packing.pack(image, error))).SerializeToString())
    rgb = dice.integers(0, 255, (13, 18, 3), dtype=np.uint8)
    for image_format in (ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.PNG):
        found.append(pb.Image(encoded=wire.encoded_to_proto(packing.encode(rgb, image_format))).SerializeToString())
    return found


# --- results ---


def feed_results(data: bytes) -> None:
    """Messages from NATS, as an edge puts them together: for each its headers as JSON, then its body."""
    assembler: Assembler[int] = Assembler(64 * 1024)
    rest = pieces(data)
    for number, (head, body) in enumerate(zip(rest[::2], rest[1::2], strict=False)):
        try:
            headers = json.loads(head)
            headers = {str(name): str(value) for name, value in headers.items()}
        except (ValueError, AttributeError, RecursionError):
            headers = {}
        try:
            part = part_of(headers, body)
            whole, _ = assembler.add(part, number, Priority.STANDARD, number)
            assert assembler.held_bytes <= max(assembler.limit_bytes, 0)
            if whole is None:
                continue
            result = wire.result_from_proto(result_pb2.Result.FromString(whole.body()))
            assert len(result.reason) <= wire.MAX_REASON and len(result.stages_ns) <= wire.MAX_STAGES
            if result.image is not None:
                packing.decode(result.image, max_pixels=MAX_PIXELS)
        except (ImageError, DecodeError):
            continue
    assembler.forget_stale(1e9)
    assert assembler.held_bytes == 0 and not len(assembler)


@cache
def result_seeds() -> list[bytes]:
    rgb = np.random.default_rng(2).integers(0, 255, (13, 18, 3), dtype=np.uint8)
    image = packing.encode(rgb, ImageFormat.WEBP)
    result = Result(FrameId("e", "s", 1), 0, Priority.STANDARD, 5, Outcome.ENHANCED, image, stages_ns={"engine": 7})
    body = wire.result_to_proto(result).SerializeToString()
    found = []
    for count in (1, 2):
        cut, messages = -(-len(body) // count), []
        for index in range(count):
            headers = {
                HEADER_MESSAGE_ID: f"e/s/1/0/{index + 1}",
                HEADER_PART: f"{index + 1}/{count}",
                HEADER_BYTES: str(len(body)),
            }
            messages += [json.dumps(headers).encode(), body[index * cut : (index + 1) * cut]]
        found.append(framed(*messages))
    return found


# --- settings ---


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="lamplight-fuzz-"))


def feed_settings(data: bytes) -> None:
    """A settings file of either node, and a policy file."""
    file = _folder() / "settings.toml"
    file.write_bytes(data)
    for cls in (CloudSettings, EdgeSettings):
        with contextlib.suppress(SettingsError):
            repr(
                _build(cls, _read_file(file, _leaves(cls), _former(cls))[0], ())
            )  # as `load` does, without its command line
    with contextlib.suppress(SettingsError):
        Policy.load(file).of("cam")


def settings_seeds() -> list[bytes]:
    files = (
        """
        port = 50051
        preset = ["fast", "edge"]
        nats = "nats://127.0.0.1:4222"
        [batch]
        window_ms = 1.5
        [limits]
        max_edges = 9
        """,
        """
        camera = "0"
        cloud = "a,b:1"
        fps = 2.5
        [sending]
        priority = "essential"
        [choosing]
        essential_region = "0,0,1,1"
        """,
        """
        [default]
        share = 0.5
        [edges.cam]
        highest = "standard"
        bytes_in_flight = 0x10
        [edges."a.*"]
        quality = 7
        """,
    )
    return [dedent(file).encode() for file in files]


# --- the spool ---


def feed_spool(data: bytes) -> None:
    """A kept frame's name, its file, and the lines of a readings.jsonl."""
    name, record, lines = (pieces(data) + [b""] * 3)[:3]
    entry = from_file_name(name.decode("utf-8", "replace"), "cam", len(record), now())
    if entry is not None:
        assert from_file_name(entry.file_name, "cam", len(record), now()) is not None
    with contextlib.suppress(CorruptRecord):
        frame, description = decode(record)
        assert frame.id == FrameId(description.edge, description.session, frame.id.sequence)
        with contextlib.suppress(ImageError):
            packing.unpack(frame.image, max_pixels=MAX_PIXELS)
    file = _folder() / "readings.jsonl"
    file.write_bytes(lines)
    found = settled_ids(file, len(name) % 7, {"cam/s/1"})
    assert found <= {"cam/s/1"}


@cache
def spool_seeds() -> list[bytes]:
    image = packing.pack(RawImage(np.zeros(12 * 8, np.uint8), 12, 8, PixelFormat.GRAY8))
    frame = Frame(FrameId("cam", "s", 1), image, 5)
    record = b"".join(encode(frame, Description("cam", "s", 1, "a.png", 96, 5, (12, 8))))
    name = b"000000000001.2.s.1.0.1700000000.0123abcd.77.frame"
    return [framed(name, record, b'{"schema": 1, "frame": "cam/s/1"}\n')]


TARGETS = {
    "frames": Target(feed_frames, frame_seeds),
    "packing": Target(feed_packing, packing_seeds),
    "results": Target(feed_results, result_seeds),
    "settings": Target(feed_settings, settings_seeds),
    "spool": Target(feed_spool, spool_seeds),
}
