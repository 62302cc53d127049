"""Safe by default: what listens beyond loopback, and what is said of it."""

import logging

import pytest

from cloud_node.exposure import check_exposure
from cloud_node.node import CloudNode
from cloud_node.settings import CloudSettings
from common.errors import SettingsError
from common.loopback import is_loopback
from common.settings import load


def given(*arguments: str) -> CloudSettings:
    return load(CloudSettings, arguments, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]", "LOCALHOST"])
def test_loopback_needs_no_setting_up(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert is_loopback(host)
    check_exposure(given("--host", host, "--http", "8080"))
    assert not caplog.records


@pytest.mark.parametrize(
    "arguments",
    [
        ("--host", "0.0.0.0"),
        ("--host", "::"),
        ("--host", "10.0.0.5"),
        ("--host", "gpu-box"),
        ("--host", "localhost.example"),
        ("--host", "127.0.0.1.example"),
        ("--host", "0"),
        ("--http", "0.0.0.0:8080"),
        ("--http", "[::]:8080"),
    ],
)
async def test_beyond_it_the_node_does_not_start_and_says_how(
    arguments: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    node = CloudNode(given("--port", "0", *arguments))
    with pytest.raises(SettingsError, match=r"enroll --init.*--identity.*--insecure"):
        await node.start()
    assert not node.address  # nothing listened
    await node.drain()
    with caplog.at_level(logging.WARNING):
        check_exposure(given(*arguments, "--insecure"))
    assert "INSECURE" in caplog.text and "fetch and remove other edges' results" in caplog.text


def test_results_in_the_clear_are_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    check_exposure(given("--nats", "nats://me:hush@10.0.0.5:4222"))
    assert "in the clear" in caplog.text and "hush" not in caplog.text
    caplog.clear()
    check_exposure(given("--nats", "nats://localhost:4222"))
    assert not caplog.records
