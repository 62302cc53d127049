"""Callers that mean harm, against a cloud node's front on a real gRPC server: many, slow, half-open, oversized."""

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest
from enrolled import authority, enrolled, secured_front
from hand_edges import good, hand_edges, serving
from results import until

from cloud_node.settings import CloudSettings, Limits
from common.channel import MAX_MESSAGE_BYTES, client_options, connect
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc

HALF_OPEN, CONNECTIONS = 500, 5
STREAM_BYTES = 160 * 1024  # of memory for one of them, both ends of the connection in this process


async def test_half_open_streams_are_bounded_and_keep_nobody_out() -> None:
    """benchmarks/half_open.py does it with ten thousand, from processes of their own."""
    async with (
        serving(CloudSettings(limits=Limits(max_edges=100))) as (front, address),
        contextlib.AsyncExitStack() as all,
    ):
        before = psutil.Process().memory_info().rss
        calls = []
        for _ in range(CONNECTIONS):
            channel = await all.enter_async_context(grpc.aio.insecure_channel(address, options=client_options()))
            stub = enhancement_pb2_grpc.EnhancementStub(channel)
            calls += [stub.Stream() for _ in range(HALF_OPEN // CONNECTIONS)]
        await asyncio.gather(*(call.wait_for_connection() for call in calls))
        waiting = front.ingress._opening
        await until(lambda: sum(call.done() for call in calls) == HALF_OPEN - 100)
        assert sum(map(len, waiting.values())) == 100
        async with hand_edges(address) as make:
            edge = make()
            await edge.open("cam", "s")  # it comes last, and is served
            await edge.frame(good())
            assert (await edge.verdict()).sequence == 0
        assert psutil.Process().memory_info().rss - before < HALF_OPEN * STREAM_BYTES
        refused = next(call for call in calls if call.done())
        assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        await until(lambda: not waiting)


async def test_connections_that_say_nothing_or_drip_keep_nobody_out() -> None:
    """TCP without HTTP/2, and HTTP/2 a byte at a time."""
    async with serving() as (_, address), contextlib.AsyncExitStack() as all:
        host, _, port = address.rpartition(":")
        writers = []
        for number in range(300):
            _, writer = await asyncio.open_connection(host, int(port))
            all.callback(writer.close)
            if number % 2:
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: number % 24])
            writers.append(writer)
        async with hand_edges(address) as make:
            edge = make()
            await edge.open("cam", "s")
            for sequence in range(3):
                writers[2 * sequence + 1].write(b"\0")
                await edge.frame(good(sequence))
                assert (await edge.verdict()).sequence == sequence


async def test_oversized_headers_are_refused_and_the_connection_lives() -> None:
    async with serving() as (front, address), grpc.aio.insecure_channel(address) as channel:
        stub = enhancement_pb2_grpc.EnhancementStub(channel)
        for size in (20_000, 1_000_000):
            call = stub.Stream(metadata=[("x-large", "x" * size)])
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call.write(pb.EdgeMessage(open=pb.Open(edge="cam", session="s")))
                await call.read()
                raise AssertionError("it was taken")
            assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        assert not front.streams.live
        call = stub.Stream(metadata=[("x-small", "x" * 100)])
        await call.write(pb.EdgeMessage(open=pb.Open(edge="cam", session="s")))
        assert (await call.read()).WhichOneof("message") == "opened"
        call.cancel()


async def test_a_message_that_announces_more_than_it_may_is_refused_unread() -> None:
    """10 GB in the prefix of a message, and a few bytes behind it: by hand, since no client of gRPC's would do so."""
    async with serving() as (_, address):
        host, _, port = address.rpartition(":")
        for announced in (MAX_MESSAGE_BYTES + 1, 2**32 - 1):
            answer = await asyncio.to_thread(raw_message, host, int(port), announced)
            assert b"Received message larger than max" in answer or b"grpc-status" in answer or b"\x03" in answer
        async with hand_edges(address) as make:
            await make().open("cam", "s")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
HEADERS = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/lamplight.v1.Enhancement/Stream"),
        (b":authority", b"a"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    )
)  # fmt: skip
FLOODS = {
    "streams that are reset at once": b"".join(
        frame(1, 4, 2 * number + 1, HEADERS) + frame(3, 0, 2 * number + 1, bytes(4)) for number in range(5_000)
    ),
    "pings": frame(6, 0, 0, bytes(8)) * 20_000,
    "settings": frame(4, 0, 0) * 20_000,
    "headers that never end": frame(1, 0, 1, HEADERS) + frame(9, 0, 1, literal(b"x-a", b"y" * 200)) * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_floods_of_http_2_hold_up_nobody_and_take_no_memory(flood: str) -> None:
    def pour(host: str, port: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(PREFACE)
            for start in range(0, len(FLOODS[flood]), 16_384):
                connection.sendall(FLOODS[flood][start : start + 16_384])
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while connection.recv(65_536):
                        pass
                connection.settimeout(30)

    async with serving() as (front, address), hand_edges(address) as make:
        host, _, port = address.rpartition(":")
        edge = make()
        await edge.open("cam", "s")
        before, sequence = psutil.Process().memory_info().rss, 0
        pouring = asyncio.create_task(asyncio.to_thread(pour, host, int(port)))
        while not pouring.done() or sequence < 3:
            await edge.frame(good(sequence))
            assert (await edge.verdict()).sequence == sequence
            sequence += 1
            await asyncio.sleep(0.02)
        assert psutil.Process().memory_info().rss - before < 64 * 2**20
        await until(lambda: not front.ingress._opening)


async def test_a_message_that_unpacks_to_a_thousand_times_its_size_is_refused_packed() -> None:
    """gRPC would inflate 100 kB of gzip to 100 MB, for each stream, before anybody looks."""
    packed = gzip.compress(bytes(32 * 2**20))
    message = b"\1" + len(packed).to_bytes(4, "big") + packed
    headers = frame(1, 4, 1, HEADERS + literal(b"grpc-encoding", b"gzip"))
    parts = [frame(0, 0, 1, message[start : start + 16_384]) for start in range(0, len(message), 16_384)]

    def answer(host: str, port: int) -> bytes:
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(PREFACE + headers + b"".join(parts))
            heard = b""
            while b"is disabled" not in heard and (data := connection.recv(65_536)):
                heard += data
            return heard

    async with serving() as (_, address), hand_edges(address) as make:
        host, _, port = address.rpartition(":")
        assert b"Compression algorithm 'gzip' is disabled" in await asyncio.to_thread(answer, host, int(port))
        await make().open("cam", "s")


def raw_message(host: str, port: int, announced: int) -> bytes:
    """Open a stream with HTTP/2 by hand, say how long the message is, and wait for the end of the stream."""
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(PREFACE + frame(1, 4, 1, HEADERS))
        connection.sendall(frame(0, 0, 1, b"\0" + announced.to_bytes(4, "big") + b"few bytes"))
        answer = b""
        while b"larger than max" not in answer and len(answer) < 100_000:
            data = connection.recv(65_536)
            if not data:
                break
            answer += data
        return answer


async def test_what_an_edge_asks_for_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (_, address), connect(address) as channel, hand_edges(address) as make:
        for preset in ("x" * 1_000_000, "fast\nlamplight: all is well"):
            edge = make()
            await edge.call.write(pb.EdgeMessage(open=pb.Open(edge="cam", session="s", preset=preset)))
            code, detail = await edge.end()
            assert code is grpc.StatusCode.FAILED_PRECONDITION and detail.startswith("preset name '")
            assert len(detail) < 1_000 and "\n" not in detail
            with pytest.raises(grpc.aio.AioRpcError, match="preset name"):
                await enhancement_pb2_grpc.EnhancementStub(channel).Enhance(
                    pb.Image(packed=good().image, preset=preset)
                )
    assert len(caplog.text) < 2_000 and "\nlamplight: all is well" not in caplog.text


async def test_an_edge_that_opens_stream_after_stream_has_few_in_the_making(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        gate, asked = asyncio.Event(), []

        async def slow(edge: str) -> pb.ResultsAddress:
            asked.append(edge)
            await (gate.wait() if edge == "loop" else asyncio.sleep(0))
            return pb.ResultsAddress()

        monkeypatch.setattr(front.ingress, "_address", slow)
        edges = [make() for _ in range(100)]
        for edge in edges:
            await edge.call.write(pb.EdgeMessage(open=pb.Open(edge="loop", session="s")))
        ends = [asyncio.create_task(edge.end()) for edge in edges]
        await until(lambda: sum(end.done() for end in ends) == 92)
        assert len(asked) == 8
        assert {end.result()[0] for end in ends if end.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        await make().open("other", "s")
        gate.set()
        await until(lambda: sum(end.done() for end in ends) == 99 and not front.ingress._joining)
        assert front.streams.live.keys() == {"loop", "other"}


async def test_who_may_not_come_in_is_told_before_a_picture_is_taken_in(tmp_path: Path) -> None:
    """The call is refused although its message never comes; one that was held first would hang here."""
    made = authority(tmp_path)
    identity = enrolled(made, "cam")
    made.revoke("cam")

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(3600)
        yield b""

    async with secured_front(made) as (_, address), connect(address, identity) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="was revoked") as refused:
            await channel.stream_unary("/lamplight.v1.Enhancement/Enhance")(nothing(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_call_without_a_picture_is_refused() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    async with serving() as (front, address), connect(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="carries no request") as refused:
            await channel.stream_unary("/lamplight.v1.Enhancement/Enhance")(nothing(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT and not front.ingress._single
