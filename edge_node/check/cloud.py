"""Does a cloud node answer, is it well, does it take this edge, does it light up a picture?"""

import asyncio
import contextlib
import os
import socket
import statistics
import time

import grpc
import grpc.aio
import numpy as np

from common import packing, wire
from common.channel import connect, explained, with_port
from common.identity import identity_of
from common.pixels import RawImage
from edge_node.check.finding import Figure, Group, timed
from edge_node.exposure import HOW, TRUST, beyond_loopback
from edge_node.settings import EdgeSettings
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, image_pb2

REACH_S, ASK_S, ENHANCE_S = 5.0, 10.0, 30.0
PINGS = 5
HEALTH = "/grpc.health.v1.Health/Check"  # spoken by hand: an empty request, and a status in field 1
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
START = "start one with `python -m cloud_node`, or name another with --cloud"


async def check_cloud(given: EdgeSettings, found: Group, address: str) -> pb.Opened | None:
    """All about one cloud node; returns what it said when it opened a stream."""
    address = with_port(address)
    if not await _reach(found, address):
        return None
    if given.identity is None and not given.insecure and (far := beyond_loopback(address)):
        found.fail("exposure", f"frames would go to {', '.join(far)} in the clear", f"{HOW}; {TRUST}")
    identity = identity_of(given.identity)
    async with connect(address, identity) as channel:
        await found.within(ASK_S, "health", _health(given, found, channel), "is this a cloud node of Lamplight?")
        opened = await found.within(ASK_S, "stream", _open(given, found, channel, address))
        if opened is not None:
            await found.within(
                ENHANCE_S, "picture", _enhance(given, found, channel), "the node is overloaded, or hangs"
            )
    return opened


async def _reach(found: Group, address: str) -> bool:
    host, _, port = address.rpartition(":")
    figures: dict[str, Figure] = {}
    advice = START
    try:
        async with asyncio.timeout(REACH_S):
            with timed(figures):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    except TimeoutError:
        why, advice = f"no answer within {REACH_S:g} s", "is the host on? does a firewall drop this port?"
    except socket.gaierror:
        why, advice = "no such host", "check the name, and this machine's DNS"
    except ConnectionRefusedError:
        why = "nobody listens there"
    except (OSError, ValueError) as error:
        why, advice = getattr(error, "strerror", None) or str(error), "check the address and this machine's network"
    else:
        found.ok("address", f"{address} answers in {figures['ms']:.1f} ms", **figures)
        return True
    found.fail("address", f"{address}: {why}", advice)
    return False


async def _health(given: EdgeSettings, found: Group, channel: grpc.aio.Channel) -> None:
    """The standard health service, asked several times: the median is the round trip of a call."""
    ask, times_ms, answer = channel.unary_unary(HEALTH), [], b""
    try:
        for _ in range(PINGS):
            began = time.perf_counter()
            answer = await ask(b"", timeout=ASK_S)
            times_ms.append((time.perf_counter() - began) * 1e3)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise ConnectionError(explained(error, identity_of(given.identity))) from None
        return found.warn("health", "it has no gRPC health service", "is it an old cloud node, or another service?")
    round_trip = round(statistics.median(times_ms), 2)
    if answer == SERVING:
        found.ok("health", f"serving; round trip {round_trip:.1f} ms", round_trip_ms=round_trip)
    else:
        state = "not serving" if answer == NOT_SERVING else "unknown"
        advice = "it is starting or draining, its device or its NATS is away: see its log"
        found.fail("health", f"{state}; round trip {round_trip:.1f} ms", advice, round_trip_ms=round_trip)


async def _open(given: EdgeSettings, found: Group, channel: grpc.aio.Channel, address: str) -> pb.Opened | None:
    """Open a stream as this edge would, and close it; beside a running edge of this name under another."""
    stub, figures, beside = enhancement_pb2_grpc.EnhancementStub(channel), dict[str, Figure](), ""
    names = (given.name, f"{given.name[:58]}-check")
    for name in names if given.identity is None else names[:1]:
        call = stub.Stream()
        try:
            with timed(figures):
                opening = pb.Open(edge=name, session=f"check-{os.urandom(4).hex()}", preset=given.sending.preset)
                await call.write(pb.EdgeMessage(open=opening))
                message = await call.read()
            if message is grpc.aio.EOF:
                raise ConnectionError(await call.details() or "the stream ended at once")
            opened: pb.Opened = message.opened
            await call.write(pb.EdgeMessage(close=pb.Close()))
            await call.done_writing()
            break
        except grpc.aio.AioRpcError as error:
            why = explained(error, identity_of(given.identity))
            taken = "in use by another session" in why
            if taken and given.identity is not None:
                found.ok("stream", f"an edge node named {name} is at work: this identity is taken there")
                return None
            if not taken or beside:
                found.fail("stream", f"{address} refuses edge {name}: {why}")
                return None
            beside = f"; an edge node named {given.name} is at work, so this asked as {given.name[:58]}-check"
        finally:
            call.cancel()
    window = f"window {opened.window_frames} frames, {opened.window_bytes / 2**20:.0f} MiB"
    figures |= {"model": opened.model, "window_frames": opened.window_frames, "window_bytes": opened.window_bytes}
    figures |= {"max_pixels": opened.max_pixels, "beside_a_running_edge": bool(beside)}
    found.ok("stream", f"{opened.model}, {window}, opened in {figures['ms']:.0f} ms{beside}", **figures)
    return opened


async def _enhance(given: EdgeSettings, found: Group, channel: grpc.aio.Channel) -> None:
    """A small dark picture there and back."""
    dark = np.random.default_rng(0).integers(0, 24, (120, 160, 3), dtype=np.uint8)
    image = wire.packed_to_proto(packing.pack(RawImage.from_rgb(dark)))
    request = pb.Image(packed=image, preset=given.sending.preset)
    request.encoding.CopyFrom(image_pb2.ResultEncoding(format=image_pb2.IMAGE_FORMAT_JPEG))
    figures: dict[str, Figure] = {}
    try:
        with timed(figures):
            answer = await enhancement_pb2_grpc.EnhancementStub(channel).Enhance(request, timeout=ENHANCE_S)
    except grpc.aio.AioRpcError as error:
        why = error.details() or error.code().name
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return found.warn("picture", f"not lit now: {why}", "the cloud node has too much to do")
        return found.fail("picture", f"not lit: {why}", "see the cloud node's log")
    found.ok("picture", f"160x120 lit by {answer.model} in {figures['ms']:.0f} ms", model=answer.model, **figures)
