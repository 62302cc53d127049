"""A real gRPC server with TLS: who comes in, and as whom."""

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from enrolled import authority, enrolled, secured_front
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hand_edges import good, hand_edges

from cloud_node.identity.authority import Authority
from cloud_node.identity.certificates import EDGE_URI, Issued, Issuer
from cloud_node.identity.guard import MOST_STREAMS
from common.channel import connect, server_credentials
from common.files import write_private
from common.identity import Identity
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc

HANG_S = 120


@pytest.fixture
def made(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def showing(made: Authority, issued: Issued) -> Identity:
    """A client that shows this certificate, and trusts the authority."""
    shown = replace(enrolled(made, "edge-17").bundle, certificate=issued.chain.decode(), key=issued.key.decode())
    path = made.folder.parent / "shown.bundle"
    write_private(path, shown.to_json())
    return Identity(path)


async def opening(
    address: str, identity: Identity | None, edge: str = "edge-17", credentials: grpc.ChannelCredentials | None = None
) -> str:
    """What becomes of a stream: "opened", or the status and why."""
    async with asyncio.timeout(HANG_S), hand_edges(address, identity, credentials) as make:
        stream = make()
        try:
            await stream.open(edge, "session")
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "opened"


async def test_an_edge_is_who_its_certificate_says(made: Authority) -> None:
    identity = enrolled(made, "edge-17", "edge-17-b")
    async with secured_front(made) as (front, address), hand_edges(address, identity) as make:
        for edge, name in (("edge-17", "edge-17"), ("edge-17-b", "edge-17-b")):
            await make().open(edge, "s")
            assert name in front.streams.live
        for other in ("edge-18", "edge-1", "edge-17-b/..", "EDGE-17", "edge-17\n"):
            assert "PERMISSION_DENIED: this certificate is of edge edge-17 and" in await opening(
                address, identity, other
            )
        assert set(front.streams.live) <= {"edge-17", "edge-17-b"}
        stream = make()
        await stream.open("", "s")  # it need not say
        await stream.frame(good(1))
        await stream.expect("accepted")
        assert front.sequences("edge-17") == [1]


@pytest.mark.parametrize("who", ["nobody", "another authority's", "a cloud node", "no edge's", "self-signed"])
async def test_who_is_not_of_the_authority_stays_out(who: str, made: Authority, tmp_path: Path) -> None:
    issuer = made._issuer()
    (tmp_path / "other").mkdir()
    other = authority(tmp_path / "other")
    name = [x509.DNSName("edge-17")]
    identity = {
        "nobody": lambda: enrolled(made, "edge-17"),  # of which only the authority is used
        "another authority's": lambda: showing(made, other._issuer().client(["edge-17"], 1)),
        "a cloud node": lambda: showing(made, issuer.server(["edge-17"], 1)),
        "no edge's": lambda: showing(made, issuer._issue("edge-17", name, ExtendedKeyUsageOID.CLIENT_AUTH, 1)),
        "self-signed": lambda: showing(made, _self_signed("edge-17")),
    }[who]()
    async with secured_front(made) as (front, address):
        credentials = grpc.ssl_channel_credentials(identity.bundle.authority.encode()) if who == "nobody" else None
        answer = await opening(address, identity, credentials=credentials)
        refused = "PERMISSION_DENIED: this certificate is no edge's" if who == "no edge's" else "UNAVAILABLE"
        assert answer.startswith(refused), answer
        assert not front.streams.live
        assert await opening(address, enrolled(made, "edge-17")) == "opened"


def _self_signed(edge: str) -> Issued:
    """The name is right, the key is its own, and nobody else vouches for it."""
    issuer = Issuer.make(1)
    name = issuer.certificates[0].subject
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(issuer.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(EDGE_URI + edge)]), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), issuer.key_pem, "", 0)


async def test_an_expired_certificate_is_refused_and_its_streams_end(made: Authority, tmp_path: Path) -> None:
    identity = enrolled(made, "edge-17", days=4 / 86_400)
    async with secured_front(made) as (front, address), hand_edges(address, identity) as make:
        stream = make()
        await stream.open("edge-17", "s")
        code, why = await stream.end()
        assert code is grpc.StatusCode.ABORTED and "has expired" in why
        assert time.time() >= identity.bundle.expires_s
        again = make()  # over the connection that was made in time
        with pytest.raises(grpc.aio.AioRpcError, match="has expired"):
            await again.open("edge-17", "s")
        await asyncio.sleep(max(0.0, identity.bundle.expires_s + 1.1 - time.time()))
        assert (await opening(address, identity)).startswith("UNAVAILABLE")
        assert not front.streams.live


async def test_a_revoked_certificate_is_refused_everywhere_and_its_streams_are_cut(made: Authority) -> None:
    identity, other = enrolled(made, "edge-17"), enrolled(made, "edge-18")
    async with (
        secured_front(made) as (front, address),
        hand_edges(address, identity) as make,
        hand_edges(address, other) as make_other,
        connect(address, identity) as channel,
    ):
        stream, kept = make(), make_other()
        await stream.open("edge-17", "s")
        await kept.open("edge-18", "s")
        made.revoke("edge-17")
        code, why = await stream.end()
        assert code is grpc.StatusCode.ABORTED and "was revoked" in why
        with pytest.raises(grpc.aio.AioRpcError, match="was revoked"):
            await make().open("edge-17", "s")  # over the same connection
        assert "PERMISSION_DENIED" in await opening(address, identity)
        for method in ("/lamplight.v1.Enhancement/Enhance", "/grpc.health.v1.Health/Check"):
            with pytest.raises(grpc.aio.AioRpcError, match="was revoked") as refused:
                await channel.unary_unary(method)(b"", timeout=HANG_S)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        with pytest.raises(grpc.aio.AioRpcError, match="was revoked"):
            await watching.read()
        await kept.frame(good(1))
        await kept.expect("accepted")
        assert await opening(address, enrolled(made, "edge-17")) == "opened"  # let in anew


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_streams_of_health_and_reflection_are_cut_too(how: str, made: Authority) -> None:
    identity = enrolled(made, "edge-17", days=1 if how == "revoked" else 6 / 86_400)
    other = enrolled(made, "edge-18")
    async with (
        secured_front(made) as (front, address),
        connect(address, identity) as channel,
        connect(address, other) as others,
    ):
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        asking = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        kept = health_pb2_grpc.HealthStub(others).Watch(health_pb2.HealthCheckRequest())
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async with asyncio.timeout(HANG_S):
            await asking.write(request)
            assert (await asking.read()).HasField("list_services_response")
            assert await watching.read() and await kept.read()
            if how == "revoked":
                made.revoke("edge-17")
            for call in (watching, asking):
                with pytest.raises(grpc.aio.AioRpcError, match=f"edge edge-17 (was|has) {how}") as ended:
                    await call.read()
                assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert not kept.done() and len(front.ingress._guard._streams) == 1
        kept.cancel()


async def test_a_certificate_has_only_so_many_streams_of_any_kind(made: Authority) -> None:
    """Over as many connections as it likes: those of health would hold memory for nothing."""
    identity, other = enrolled(made, "edge-17"), enrolled(made, "edge-18")
    async with secured_front(made) as (front, address), contextlib.AsyncExitStack() as all:
        watching = []
        for _ in range(3):
            stub = health_pb2_grpc.HealthStub(await all.enter_async_context(connect(address, identity)))
            watching += [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(100)]
        async with asyncio.timeout(HANG_S):
            while sum(call.done() for call in watching) < 300 - MOST_STREAMS:
                await asyncio.sleep(0.05)
        assert "RESOURCE_EXHAUSTED: this certificate of edge edge-17 has 256" in await opening(address, identity)
        assert await opening(address, other, "edge-18") == "opened"
        for call in watching:
            call.cancel()
        async with asyncio.timeout(HANG_S):
            while front.ingress._guard._open:
                await asyncio.sleep(0.05)
        assert await opening(address, identity) == "opened"


async def test_an_edge_cannot_pass_for_a_cloud_node(made: Authority) -> None:
    """Neither another edge, nor a node that this name does not belong to."""
    impostor, victim = enrolled(made, "localhost"), enrolled(made, "edge-17")
    server = grpc.aio.server()
    shown = impostor.bundle
    credentials = server_credentials(lambda: (shown.certificate.encode(), shown.key.encode(), shown.authority.encode()))
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    answer = await opening(f"localhost:{port}", victim)
    assert answer.startswith("UNAVAILABLE") and "handshake failed" in answer
    await server.stop(0)
    async with secured_front(made, "127.0.0.2") as (front, address):
        assert (await opening(address, victim)).startswith("UNAVAILABLE")
        assert not front.streams.live


async def test_an_enrolled_edge_speaks_to_no_one_in_the_clear(made: Authority) -> None:
    server = grpc.aio.server()
    heard = []

    async def hear(request: object, context: grpc.aio.ServicerContext) -> None:
        heard.append(request)

    handlers = {"Stream": grpc.stream_stream_rpc_method_handler(hear)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lamplight.v1.Enhancement", handlers),))
    port = server.add_insecure_port("localhost:0")
    await server.start()
    assert (await opening(f"localhost:{port}", enrolled(made, "edge-17"))).startswith("UNAVAILABLE")
    assert not heard
    await server.stop(0)


async def test_certificates_and_authorities_change_while_a_node_runs(made: Authority) -> None:
    first = enrolled(made, "edge-17")
    old, kept = Identity(_copy(first.path, "old")), enrolled(made, "edge-19")

    async def until(identity: Identity, wanted: str) -> None:
        async with asyncio.timeout(HANG_S):
            while not (await opening(address, identity, "")).startswith(wanted):
                await asyncio.sleep(0.1)

    async with secured_front(made) as (front, address), hand_edges(address, kept) as make:
        stream = make()
        await stream.open("edge-19", "s")
        before = made.node.joinpath("server.crt").read_bytes()
        made.rotate()
        assert made.node.joinpath("server.crt").read_bytes() != before
        await until(old, "opened")
        made.rotate_authority()
        new = enrolled(made, "edge-18")  # of the new authority
        await until(new, "opened")
        await until(old, "opened")
        made.rotate()
        await until(old, "UNAVAILABLE")  # it does not know the new authority
        await until(new, "opened")
        await stream.frame(good(1))  # a connection that was made outlives it all, until the former are forgotten
        await stream.expect("accepted")
        made.forget_former()
        assert "was revoked" in (await stream.end())[1]
        renewed = enrolled(made, "edge-17")
        await until(renewed, "opened")
        showing_old = showing(made, Issued(old.bundle.certificate.encode(), old.bundle.key.encode(), "", 0))
        await until(showing_old, "UNAVAILABLE")
        assert {entry.edges: entry.state(time.time()) for entry in made.entries} == {
            ("edge-17",): "valid",
            ("edge-18",): "valid",
            ("edge-19",): "revoked",
        }


def _copy(path: Path, name: str) -> Path:
    copy = path.with_name(name)
    write_private(copy, path.read_bytes())
    return copy


async def test_a_replayed_frame_gives_no_second_result(made: Authority) -> None:
    identity, thief = enrolled(made, "edge-17"), enrolled(made, "edge-18")
    frame = good(7)
    async with (
        secured_front(made) as (front, address),
        hand_edges(address, identity) as make,
        hand_edges(address, thief) as make_thief,
    ):
        stream = make()
        await stream.open("edge-17", "s")
        await stream.frame(frame)
        assert isinstance(await stream.verdict(), pb.Accepted)
        for _ in range(2):
            await stream.frame(frame)
            verdict = await stream.verdict()
            assert verdict.reason == pb.REJECT_REASON_DUPLICATE and not verdict.retry_after_ms
        later = make()  # a new stream of the session
        await later.open("edge-17", "s")
        await later.frame(frame)
        assert (await later.verdict()).reason == pb.REJECT_REASON_DUPLICATE
        stolen = make_thief()
        with pytest.raises(grpc.aio.AioRpcError, match="not of 'edge-17'"):
            await stolen.open("edge-17", "s")
        mine = make_thief()
        await mine.open("edge-18", "s")
        await mine.frame(frame)  # the same bytes under its own name are its own frame
        await mine.verdict()
        assert front.sequences("edge-17") == [7] and front.sequences("edge-18") == [7]


async def test_a_picture_is_asked_for_under_the_certificates_name(made: Authority) -> None:
    identity = enrolled(made, "edge-17")
    async with secured_front(made) as (front, address), connect(address, identity) as channel:
        front.working = False
        request = pb.Image(packed=good().image)
        call = enhancement_pb2_grpc.EnhancementStub(channel).Enhance(request)
        async with asyncio.timeout(HANG_S):
            while not len(front.scheduler):
                await asyncio.sleep(0.01)
        [ticket] = front.scheduler.select(time.monotonic_ns()).batch
        assert ticket.edge == "single edge-17"
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
