"""What a bundle says instead of flags."""

from pathlib import Path

import pytest
from enrolled import authority, bundle

from cloud_node.identity.authority import Authority
from common.errors import SettingsError
from edge_node import cameras
from edge_node.settings import EdgeSettings


def load(*arguments: str) -> list[EdgeSettings]:
    return cameras.load(EdgeSettings, arguments)


def test_names_and_addresses_come_from_the_bundle(tmp_path: Path) -> None:
    made = Authority.init(tmp_path / "a", ["gpu-box"], ["gpu-box:50051", "gpu-2:50051"], ["tls://gpu-box:4222"])
    file = tmp_path / "edge.bundle"
    file.touch(0o600)
    file.write_text(made.enroll(["gate-0", "gate-1"]).to_json())
    [one] = load("--camera", "0", "--identity", str(file))
    assert (one.name, one.cloud, one.nats) == ("gate-0", "gpu-box:50051,gpu-2:50051", "tls://gpu-box:4222")
    two = load("--camera", "0", "--camera", "1", "--identity", str(file))
    assert [each.name for each in two] == ["gate-0", "gate-1"]
    [given] = load("--camera", "0", "--identity", str(file), "--edge", "gate-1", "--cloud", "x", "--nats", "tls://y")
    assert (given.name, given.cloud, given.nats) == ("gate-1", "x", "tls://y")


def test_what_the_bundle_is_not_for_is_refused(tmp_path: Path) -> None:
    file = bundle(authority(tmp_path), "edge-17")
    with pytest.raises(SettingsError, match=r"--edge edge-18: .* is of edge-17; .*enroll edge-18"):
        load("--camera", "0", "--identity", str(file), "--edge", "edge-18")
    with pytest.raises(SettingsError, match="1 names for 2 cameras"):
        load("--camera", "0", "--camera", "1", "--identity", str(file))
    file = file.rename(tmp_path / "open.bundle")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        load("--camera", "0", "--identity", str(file))
