"""Enrolled edges and a cloud node on every interface, as real processes."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from enrolled import authority, bundle
from processes import Cloud, Process, readings

from cloud_node.identity.authority import Authority
from common.settings import load
from edge_node.check.broker import check_broker
from edge_node.check.cloud import check_cloud
from edge_node.check.finding import Group, Mark
from edge_node.settings import EdgeSettings

OPEN = ("--host", "0.0.0.0", "--http", "0.0.0.0:0", "--nats-port", "0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def node(made: Authority) -> Iterator[Cloud]:
    """One for all tests here, on every interface."""
    cloud = Cloud("--preset", "none", *OPEN, "--grace-s", "1", "--identity", str(made.node), "--verbose")
    yield cloud
    assert cloud.end() == 0, cloud.output
    assert all(secret not in cloud.output for secret in secrets_of(made))
    assert max(map(len, cloud.lines)) < 2_000  # no frame either


def edge(identity: Path, cloud: Cloud, source: Path, output: Path, *more: str) -> tuple[str, ...]:
    fixed = ("-m", "edge_node", "--identity", str(identity), "--cloud", f"localhost:{cloud.port}")
    return (*fixed, "--source", str(source), "--output", str(output), "--detector", "none", "--local", "off", *more)


def secrets_of(made: Authority, *bundles: Path) -> list[str]:
    """Every secret there is, in pieces that would show."""
    texts = [path.read_text() for path in made.folder.rglob("*") if path.is_file()]
    texts += [path.read_text() for path in bundles]
    found = set(re.findall(r"\bS[UAO][A-Z2-7]{54,}", "\n".join(texts)))
    found |= set(re.findall(r"-----BEGIN PRIVATE KEY-----\\?n?\n?([A-Za-z0-9+/=]{20,})", "\n".join(texts)))
    found |= set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "\n".join(texts)))
    return [*found, (made.node / "http.token").read_text().strip()]


def test_a_bundle_is_all_that_an_edge_needs_and_a_revocation_all_that_throws_it_out(
    start: Callable[..., Process], node: Cloud, made: Authority, photos: Path, tmp_path: Path, otlp: object
) -> None:
    file = bundle(made, "edge-17")
    before = file.read_bytes()
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint}
    output = tmp_path / "out"
    running = start(Process, *edge(file, node, photos, output, "--loop", "--fps", "20", "--verbose"), env=traced)
    running.wait_until(lambda: len(readings(output)) >= 10)
    assert {item["outcome"] for item in readings(output)} == {"enhanced"}
    assert all(item["edge"] == "edge-17" for item in readings(output))
    made.revoke("edge-17")
    running.wait_for("this certificate of edge edge-17 was revoked")
    again = start(Process, *edge(file, node, photos, tmp_path / "again"))
    again.wait_for("was revoked: have it enrolled again")
    assert again.wait() == 7
    settled = len(readings(output))
    bundle(made, "edge-17")  # into the same file: the edge that runs takes it up
    running.wait_until(lambda: len(readings(output)) >= settled + 10)
    running.end()
    old = tmp_path / "old"
    old.write_bytes(before)
    told = "\n".join([node.output, running.output, again.output, *map(str, otlp.resources())])
    assert "edge-17" in told and len(otlp.spans()) > 20
    for secret in secrets_of(made, old, file):
        assert secret not in told
    # No frame either: nothing is as long as the smallest of them, and no value is bytes.
    assert max(map(len, told.split("\n"))) < 2_000
    assert not any(item.value.HasField("bytes_value") for span in otlp.spans() for item in span.attributes)


async def test_check_tells_who_is_not_let_in_and_why(node: Cloud, made: Authority, tmp_path: Path) -> None:
    stranger, mine = bundle(authority(tmp_path), "edge-18"), bundle(made, "edge-18")

    async def check(*arguments: str) -> tuple[bool, str]:
        cloud, nats = Group("cloud"), Group("nats")
        given = load(EdgeSettings, ["--source", "x", "--edge", "edge-18", *arguments], {})
        opened = await check_cloud(given, cloud, f"localhost:{node.port}")
        await check_broker(given, nats, Group("clock"), opened)
        found = cloud.findings + nats.findings
        words = " ".join(f"{item.mark.value} {item.name} {item.value} {item.advice};" for item in found)
        return all(item.mark is Mark.OK for item in found), words

    works, said = await check("--identity", str(mine))
    assert works and "ok login tls://" in said and "3 consumers" in said, said
    works, said = await check("--identity", str(stranger))
    assert not works and "its certificate is of another authority" in said, said
    works, said = await check()
    assert not works and "is --identity missing?" in said, said
    works, said = await check("--identity", str(mine), "--edge", "edge-19")
    refused = "this certificate is of edge edge-18, not of 'edge-19': leave --edge out, or enroll the edge by that name"
    assert not works and refused in said and "another authority" not in said, said
