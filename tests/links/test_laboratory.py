"""The laboratory itself, proved with ping and a plain TCP copy.

Times have lower bounds alone: a link may not be faster than its shape, and a busy machine makes anything slower.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from laboratory import Host, Laboratory, Shape

TRAFFIC = str(Path(__file__).with_name("traffic.py"))


def ping(host: Host, address: str, count: int) -> list[float]:
    """Round trips in milliseconds."""
    return json.loads(host.run(sys.executable, TRAFFIC, "ping", address, str(count)))["ms"]


def serve(host: Host) -> None:
    server = host.start(sys.executable, TRAFFIC, "serve", "9000", stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"


def copy(host: Host, to: Host, size: int) -> dict[str, float]:
    return json.loads(host.run(sys.executable, TRAFFIC, "copy", to.address, "9000", str(size)))


def test_delay_and_rate(laboratory: Laboratory) -> None:
    edge = laboratory.host("edge", Shape(rate_mbit=10, delay_ms=30))
    cloud = laboratory.host("cloud")
    serve(cloud)
    trips = ping(edge, cloud.address, 10)
    assert len(trips) == 10 and min(trips) >= 60
    copied = copy(edge, cloud, 500_000)
    assert copied["arrived"] == 500_000 and copied["mbit_s"] <= 10
    edge.shape(Shape(rate_mbit=2))
    assert copy(edge, cloud, 100_000)["mbit_s"] <= 2


def test_loss(laboratory: Laboratory) -> None:
    edge, cloud = laboratory.host("edge", Shape(loss=0.2)), laboratory.host("cloud")
    assert 0.5 < len(ping(edge, cloud.address, 150)) / 150 < 0.78  # 0.64: lost on either way
    assert len(ping(laboratory.host("other"), cloud.address, 30)) == 30


def test_a_cut_is_silent_and_what_was_lost_comes_again(laboratory: Laboratory) -> None:
    edge, cloud = laboratory.host("edge", Shape(rate_mbit=10, delay_ms=5)), laboratory.host("cloud")
    serve(cloud)
    edge.cut()
    assert ping(edge, cloud.address, 5) == []
    copying = edge.start(sys.executable, TRAFFIC, "copy", cloud.address, "9000", "1000", stdout=subprocess.PIPE)
    time.sleep(0.2)
    assert copying.poll() is None
    edge.restore()
    assert json.loads(copying.communicate(timeout=60)[0])["arrived"] == 1000


def test_a_plain_link_cannot_be_cut(laboratory: Laboratory) -> None:
    with pytest.raises(ValueError, match="give it a Shape"):
        laboratory.host("cloud").cut()


def test_nothing_is_left_when_its_owner_is_killed(laboratory: Laboratory) -> None:
    code = (
        "import subprocess, sys, time; from laboratory import *\n"
        "with Laboratory() as made:\n"
        "    edge = made.host('edge', Shape(rate_mbit=1))\n"
        f"    server = edge.start(sys.executable, {TRAFFIC!r}, 'serve', '9000', stdout=subprocess.PIPE)\n"
        "    server.stdout.readline()\n"
        "    print(edge.pid, server.pid, edge._relay.pid, flush=True)\n"
        "    time.sleep(1000)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    assert owner.stdout is not None
    left = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(left) == 3
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in left):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
