import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nats.errors
import psutil
import pytest
from nats.aio.client import Client

from common import child, nats_server
from common.errors import BrokerUnavailable
from common.nats_connection import close_client
from common.nats_server import EmbeddedServer, find_server

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "get-nats-server.sh"
NODE = """
import asyncio
from common.nats_connection import close_client
from common.nats_server import EmbeddedServer
async def main():
    server = EmbeddedServer()
    await server.start()
    print(server.pid, server._run_dir, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def connect(url: str) -> Client:
    async def ignore(_: Exception) -> None:
        pass

    client = Client()
    try:
        await client.connect(url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=ignore)
    except BaseException:
        await close_client(client)  # nats-py leaves its socket open
        raise
    return client


async def test_the_server_sees_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAMPLIGHT_WEBHOOK_SECRET", "LAMPLIGHT_NATS", "OTEL_EXPORTER_OTLP_HEADERS", "some_api_key"):
        monkeypatch.setenv(name, "hush-7319")
    monkeypatch.setenv("GOMAXPROCS", "1")
    server = EmbeddedServer()
    await server.start()
    environment = psutil.Process(server.pid).environ()
    await server.stop()
    assert "hush-7319" not in environment.values()
    assert environment["GOMAXPROCS"] == "1" and environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("trap", ["pipe", "link", "linked folder", "folder of another"])
def test_traps_among_the_leftovers_hold_nobody_up_and_harm_nothing(
    trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    folder, left = temporary / f"{nats_server.RUN_PREFIX}x", temporary / f"{nats_server.RUN_PREFIX}left"
    left.mkdir()
    if trap == "linked folder":
        folder.symlink_to(precious)
    else:
        folder.mkdir()
    if trap == "pipe":
        os.mkfifo(folder / nats_server.LOCK_NAME)
    elif trap == "link":
        (folder / nats_server.LOCK_NAME).symlink_to(precious / "new")
    elif trap == "folder of another":
        if os.geteuid() != 0:
            pytest.skip("only root can make one")
        (folder / "theirs").write_text("kept")
        os.chown(folder, 12345, 12345)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    done = threading.Thread(target=nats_server._remove_leftovers, args=(-1.0,), daemon=True)
    done.start()
    done.join(60)
    assert not done.is_alive()
    assert [path.name for path in precious.iterdir()] == ["file"] and os.path.lexists(folder) and not left.exists()
    assert trap != "folder of another" or (folder / "theirs").exists()


async def test_serves_jetstream_until_it_is_stopped() -> None:
    server = EmbeddedServer()
    await server.start()
    client = await connect(server.url)
    assert client.max_payload == 8 * 1024 * 1024
    await client.jetstream().add_stream(name="s", subjects=["s"])
    await client.close()
    pid, run_dir = server.pid, server._run_dir
    assert run_dir.is_dir() and (run_dir / "server.conf").stat().st_mode & 0o777 == 0o600
    await server.stop()
    await server.stop()
    assert not psutil.pid_exists(pid) and not run_dir.exists()


async def test_nobody_without_the_password_gets_in() -> None:
    server = EmbeddedServer()
    await server.start()
    try:
        with pytest.raises(nats.errors.Error, match="Authorization"):
            await connect(f"nats://127.0.0.1:{server.port}")
    finally:
        await server.stop()


async def test_an_edge_can_fetch_and_no_more() -> None:
    server = EmbeddedServer()
    await server.start()
    owner, edge = await connect(server.url), await connect(server.edge_url())
    try:
        jetstream = owner.jetstream()
        await jetstream.add_stream(name="s", subjects=["s"])
        await jetstream.add_consumer("s", durable_name="c", ack_policy="explicit")
        await edge.publish("s", b"forged")
        await edge.flush()
        await jetstream.publish("s", b"real")
        assert (await jetstream.stream_info("s")).state.messages == 1
        subscription = await edge.jetstream().pull_subscribe_bind("c", "s")
        [message] = await subscription.fetch(1)
        assert message.data == b"real"
    finally:
        await edge.close()
        await owner.close()
        await server.stop()


async def test_started_after_a_stop_it_is_found_where_it_was_and_is_empty() -> None:
    server = EmbeddedServer()
    await server.start()
    url, edge_url = server.url, server.edge_url()
    client = await connect(url)
    await client.jetstream().add_stream(name="s", subjects=["s"], storage="file")
    await client.close()
    await server.stop()
    await server.start()
    try:
        assert (server.url, server.edge_url()) == (url, edge_url)
        client = await connect(url)
        assert (await client.jetstream().account_info()).streams == 0
        await client.close()
    finally:
        await server.stop()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho the disk is full >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("LAMPLIGHT_NATS_SERVER", str(broken))
    with pytest.raises(BrokerUnavailable, match="the disk is full"):
        await EmbeddedServer().start()


async def test_it_is_started_again_when_it_is_killed() -> None:
    server = EmbeddedServer()
    await server.start()
    try:
        old, url = server.pid, server.url
        os.kill(old, signal.SIGKILL)
        while server.pid in (None, old):
            await asyncio.sleep(0.02)
        while True:
            try:
                client = await connect(url)
                break
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.05)
        assert (await client.jetstream().account_info()).memory == 0
        await client.close()
    finally:
        await server.stop()


async def test_it_stops_though_the_one_that_starts_it_again_swallows_a_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, launching = EmbeddedServer(), asyncio.Event()
    await server.start()

    async def deaf(program: Path) -> None:  # nats-py loses a cancellation that comes with an answer
        launching.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BrokerUnavailable("it did not answer") from None

    monkeypatch.setattr(server, "_launch", deaf)
    os.kill(server.pid or 0, signal.SIGKILL)
    async with asyncio.timeout(60):
        await launching.wait()
        await server.stop()
    assert server.pid is None


def test_it_goes_when_its_node_is_killed() -> None:
    node = subprocess.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    pid, run_dir = node.stdout.readline().split()
    server = psutil.Process(int(pid))
    assert server.is_running()
    node.send_signal(signal.SIGKILL)
    node.wait()
    node.stdout.close()
    assert psutil.wait_procs([server], timeout=60)[0] == [server]
    leftover = Path(run_dir)
    assert leftover.is_dir()
    nats_server._remove_leftovers(older_than_s=0)
    assert not leftover.exists()


def test_the_guard_ends_its_command_with_its_parent() -> None:
    script = (
        "import os, subprocess, sys\n"
        f"guard = subprocess.Popen([sys.executable, {child.__file__!r}, '--parent', str(os.getpid()), '--guard',\n"
        "    'sleep', '600'], stdin=subprocess.PIPE)\n"
        "print(guard.pid, flush=True)\n"
        "guard.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    guard = psutil.Process(int(parent.stdout.readline()))
    while not (commands := guard.children()):
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert not psutil.wait_procs([guard, *commands], timeout=60)[1]


def test_a_command_whose_parent_is_gone_already_does_not_start() -> None:
    command = [sys.executable, child.__file__, "--parent", "1", "echo", "started"]
    done = subprocess.run(command, capture_output=True, text=True)
    if sys.platform == "linux":
        assert done.returncode == 1 and done.stdout == ""
    else:
        assert done.stdout == "started\n"


def test_where_a_server_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_server()
    assert os.access(real, os.X_OK)
    monkeypatch.setenv("LAMPLIGHT_NATS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(BrokerUnavailable, match="nothing"):
        find_server()
    monkeypatch.delenv("LAMPLIGHT_NATS_SERVER")
    project, on_path, brewed = tmp_path / "project", tmp_path / "bin", tmp_path / "brew"
    monkeypatch.setattr(nats_server, "__file__", str(project / "common" / "nats_server.py"))
    monkeypatch.setenv("PATH", str(on_path))
    with pytest.raises(BrokerUnavailable, match=r"deploy/get-nats-server.sh or pass --nats URL"):
        find_server()
    for folder in (on_path, project / ".nats", brewed):  # the later the better
        folder.mkdir(parents=True)
        (folder / "nats-server").symlink_to(real)
        if folder is brewed:
            (project / ".nats" / "path").write_text(f"{brewed / 'nats-server'}\n")
        assert find_server() == folder / "nats-server"
    (brewed / "nats-server").unlink()
    assert find_server() == project / ".nats" / "nats-server"


def test_an_old_server_on_the_path_gives_way_to_the_fetched_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_server()
    project, on_path = tmp_path / "project", tmp_path / "bin"
    for folder in (project / ".nats", project / "deploy", on_path):
        folder.mkdir(parents=True)
    for name in (SCRIPT, SCRIPT.with_name("apt-here.sh")):
        shutil.copy(name, project / "deploy")
    (project / ".nats" / "nats-server").symlink_to(real)
    old = on_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.8.4\n")
    old.chmod(0o755)
    monkeypatch.delenv("LAMPLIGHT_NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", f"{on_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(nats_server, "__file__", str(project / "common" / "nats_server.py"))
    script = ["sh", str(project / "deploy" / SCRIPT.name)]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(printed) == find_server() == project / ".nats" / "nats-server"
