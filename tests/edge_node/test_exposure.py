"""Safe by default: what leaves an edge's machine, and what is said of it."""

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from common.errors import LamplightError, SettingsError
from common.settings import load
from edge_node import cli
from edge_node.client import Client
from edge_node.exposure import beyond_loopback, check_cloud, check_exposure
from edge_node.load.run import run
from edge_node.load.settings import LoadSettings
from edge_node.settings import EdgeSettings

FAR = "192.0.2.1"  # nobody's
TOKEN = "lantern-over-water"


def given(*arguments: str) -> EdgeSettings:
    return load(EdgeSettings, ["--camera", "0", *arguments], {})


@pytest.mark.parametrize(
    "cloud", ["localhost", "LOCALHOST:1", "127.0.0.1:50051", "127.1.2.3", "[::1]:50051", "::1", "localhost,127.0.0.1:7"]
)
def test_loopback_needs_no_setting_up(cloud: str, caplog: pytest.LogCaptureFixture) -> None:
    check_exposure(given("--cloud", cloud, "--live", "8080"))
    assert not caplog.records


@pytest.mark.parametrize("cloud", [FAR, f"{FAR}:50051", "[2001:db8::1]:50051", f"localhost,{FAR}", "gpu-box.invalid"])
def test_beyond_it_frames_do_not_leave_in_the_clear(
    cloud: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"in the clear.*enroll EDGE.*--identity.*--insecure"):
        check_exposure(given("--cloud", cloud))
    check_exposure(given("--cloud", cloud, "--local", "only"))
    check_cloud(cloud, tmp_path / "edge.bundle", insecure=False)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_exposure(given("--cloud", cloud, "--insecure"))
    assert "INSECURE" in caplog.text and "see frames and results" in caplog.text


def test_a_name_is_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"here": ["127.0.0.1", "::1"], "both": ["127.0.0.1", FAR], "far": [FAR]}

    def look_up(host: str, *_: object, **__: object) -> list:
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert beyond_loopback("here,both:7,far") == ["both:7", "far:50051"]


def test_the_live_page_is_for_others_only_if_told_so(caplog: pytest.LogCaptureFixture) -> None:
    flags = ("--live", "0.0.0.0:8080", "--live-token", TOKEN)
    with pytest.raises(SettingsError, match=r"--live 0.0.0.0:8080: without TLS .*--insecure"):
        check_exposure(given(*flags))
    check_exposure(given(*flags, "--insecure"))
    assert "INSECURE (--live 0.0.0.0:8080)" in caplog.text and TOKEN not in caplog.text


def test_every_way_to_send_frames_asks(tmp_path: Path) -> None:
    for command in (
        ["--camera", "0", "--cloud", FAR],
        ["enhance", "in.png", "out.png", "--cloud", FAR],
        ["load", "--source", str(tmp_path), "--cloud", FAR, "--output", str(tmp_path / "out")],
    ):
        with pytest.raises(LamplightError, match="in the clear"):
            cli._command(command)
    with pytest.raises(SettingsError, match="in the clear"):
        Client(FAR)
    Client(FAR, insecure=True).close()
    with pytest.raises(SettingsError, match="in the clear"):
        asyncio.run(run(LoadSettings(source=str(tmp_path), cloud=FAR)))
