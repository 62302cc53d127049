"""Enrolled edges and a cloud node on every interface, as real processes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from enrolled import authority, bundle
from processes import ROOT, Cloud, Process, readings

from cloud_node.identity.authority import Authority

FAST = ("--preset", "none", "--host", "0.0.0.0", "--nats-port", "0")


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
    start: Callable[..., Process], photos: Path, tmp_path: Path
) -> None:
    made = authority(tmp_path)
    file = bundle(made, "edge-17")
    before = file.read_bytes()
    cloud = start(Cloud, *FAST, "--http", "0.0.0.0:0", "--identity", str(made.node), "--verbose")
    output = tmp_path / "out"
    running = start(Process, *edge(file, cloud, photos, output, "--loop", "--fps", "20", "--verbose"))
    running.wait_until(lambda: len(readings(output)) >= 10)
    assert {item["outcome"] for item in readings(output)} == {"enhanced"}
    assert all(item["edge"] == "edge-17" for item in readings(output))
    made.revoke("edge-17")
    running.wait_for("this certificate of edge edge-17 was revoked")
    again = start(Process, *edge(file, cloud, photos, tmp_path / "again"))
    again.wait_for("was revoked: have it enrolled again")
    assert again.wait() == 7
    settled = len(readings(output))
    bundle(made, "edge-17")  # into the same file: the edge that runs takes it up
    running.wait_until(lambda: len(readings(output)) >= settled + 10)
    running.end()
    assert cloud.end() == 0, cloud.output
    old = tmp_path / "old"
    old.write_bytes(before)
    for secret in secrets_of(made, old, file):
        assert all(secret not in process.output for process in (cloud, running, again))


def test_who_is_not_let_in_is_told_why(start: Callable[..., Process], photos: Path, tmp_path: Path) -> None:
    made = authority(tmp_path)
    (tmp_path / "other").mkdir()
    stranger, mine = bundle(authority(tmp_path / "other"), "edge-17"), bundle(made, "edge-17")
    cloud = start(Cloud, *FAST, "--identity", str(made.node))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )

    def check(*arguments: str) -> tuple[bool, str]:
        fixed = ("-m", "edge_node", "check", "--source", str(photos), "--detector", "none", "--local", "off", "--json")
        done = run(*fixed, "--output", str(tmp_path / "check"), "--cloud", f"localhost:{cloud.port}", *arguments)
        report = json.loads(done.stdout)
        findings = [item for item in report["findings"] if item["group"] in ("cloud", "nats")]
        return not any(item["mark"] == "FAIL" for item in findings), " ".join(
            f"{item['mark']} {item['name']} {item['value']} {item['advice']}" for item in findings
        )

    works, said = check("--identity", str(mine))
    assert works and "ok login tls://" in said and "3 consumers" in said, said
    works, said = check("--identity", str(stranger))
    assert not works and "its certificate is of another authority" in said, said
    works, said = check()
    assert not works and "is --identity missing?" in said, said
    done = run(*edge(mine, cloud, photos, tmp_path / "out", "--edge", "edge-18"))
    assert done.returncode == 2 and "--edge edge-18" in done.stderr and "enroll edge-18" in done.stderr
    mine.chmod(0o644)
    done = run(*edge(mine, cloud, photos, tmp_path / "out"))
    assert done.returncode == 2 and "chmod 600" in done.stderr
    assert cloud.end() == 0, cloud.output


@pytest.mark.parametrize("names", ["gate-0,gate-1"])
def test_one_bundle_serves_the_cameras_of_one_device(
    names: str, start: Callable[..., Process], photos: Path, tmp_path: Path
) -> None:
    made = authority(tmp_path)
    file = bundle(made, *names.split(","))
    cloud = start(Cloud, *FAST, "--identity", str(made.node))
    both = start(Process, *edge(file, cloud, photos, tmp_path / "out", "--source", str(photos)))
    assert both.wait() == 0, both.output
    for name in names.split(","):
        assert {item["outcome"] for item in readings(tmp_path / "out" / name)} == {"enhanced"}
    assert cloud.end() == 0, cloud.output
