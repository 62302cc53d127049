"""Nodes of different versions: a relay between two real ones says what the other version would (docs/upgrades.md)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from processes import Cloud, Process, edge_arguments, readings

from common.channel import client_options, server_options
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import result_pb2

STREAM = "/lamplight.v1.Enhancement/Stream"
UNKNOWN = b"\xc0\x3e\x07" + b"\xca\x3e\x05later"  # field 1000 = 7, field 1001 = "later"
Message = pb.EdgeMessage | pb.CloudMessage
Said = Callable[[Message], list[Message]]


def newer(message: Message) -> list[Message]:
    """With fields that nobody here knows, after a kind of message that nobody here knows."""
    kind = message.WhichOneof("message")
    getattr(message, kind).MergeFromString(UNKNOWN)
    message.MergeFromString(UNKNOWN)
    return [message] if kind in ("open", "opened") else [type(message).FromString(UNKNOWN), message]


def older(message: Message) -> list[Message]:
    """Without what was added after the first version: steps of samples, signs of life that nobody asked for."""
    if message.WhichOneof("message") == "frame":
        message.frame.image.ClearField("step")
    idle = message.WhichOneof("message") == "credit" and not message.credit.ByteSize()
    return [] if idle or message.WhichOneof("message") == "alive" else [message]


@contextmanager
def relay(cloud: str, of_edge: Said, of_cloud: Said) -> Iterator[str]:
    """The address of one that passes streams on, as these say them."""

    def passed(messages: Iterator[Message], said: Said) -> Iterator[Message]:
        for message in messages:
            yield from said(message)

    def stream(messages: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        call = upward(passed(messages, of_edge))
        context.add_callback(call.cancel)
        try:
            yield from passed(call, of_cloud)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    handler = grpc.stream_stream_rpc_method_handler(
        stream, pb.EdgeMessage.FromString, pb.CloudMessage.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(4), options=server_options())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(STREAM.split("/")[1], {"Stream": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    with grpc.insecure_channel(cloud, options=client_options()) as channel:
        upward = channel.stream_stream(STREAM, pb.EdgeMessage.SerializeToString, pb.CloudMessage.FromString)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    node = Cloud("--preset", "none", "--grace-s", "1")
    yield node
    assert node.end() == 0, node.output
    assert "Traceback" not in node.output


@pytest.mark.parametrize(
    ("of_edge", "of_cloud"),
    [(newer, lambda message: [message]), (lambda message: [message], newer), (older, older), (newer, newer)],
    ids=["newer edge", "newer cloud node", "first version", "both newer"],
)
def test_frames_come_through(cloud: Cloud, of_edge: Said, of_cloud: Said, photos: Path, tmp_path: Path) -> None:
    with relay(cloud.address, of_edge, of_cloud) as address:
        edge = Process(*edge_arguments(address, photos, tmp_path / "out", "--detector", "none", "--local", "off"))
        assert edge.wait() == 0, edge.output
    assert "Traceback" not in edge.output
    assert [line["outcome"] for line in readings(tmp_path / "out")] == ["enhanced"] * 4


def test_a_result_of_a_newer_cloud_node_is_read() -> None:
    known = result_pb2.Result(sequence=3, outcome=result_pb2.OUTCOME_ENHANCED, model="fast-9")
    assert known.SerializeToString() != (more := known.SerializeToString() + UNKNOWN)
    again = result_pb2.Result.FromString(more)
    assert (again.sequence, again.outcome, again.model) == (3, result_pb2.OUTCOME_ENHANCED, "fast-9")
