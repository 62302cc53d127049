"""Several hosts on one machine, joined by links that are slow, long, lossy, or cut.

    with Laboratory() as laboratory:
        edge = laboratory.host("edge", Shape(rate_mbit=10, delay_ms=30, loss=0.001))
        cloud = laboratory.host("cloud")
        server = cloud.start("python", "-m", "http.server")
        edge.start("curl", f"http://{cloud.address}:8000/")
        edge.cut()
        edge.restore()

Each host is a network namespace with one link to a router, which joins them all. A link is plain (veth), or shaped:
rate by tc's token bucket, delay and loss by relay.py. Nothing has a name outside: namespaces, devices and processes end
with this process, also when it is killed.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

RELAY = Path(__file__).with_name("relay.py")
TOOLS = ("ip", "tc", "nsenter", "unshare", "setpriv", "sysctl")
LEAST_BURST_BYTES = 3_200  # two packets
LEAST_QUEUE_BYTES = 32_000
END_S = 10.0
DEVICE = "link0"  # of every host but the router


class NotPossible(Exception):
    """This machine does not let us make network namespaces or devices; says which."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A link, the same in both directions."""

    rate_mbit: float = 0.0  # 0 = as fast as it goes
    delay_ms: float = 0.0  # one way
    loss: float = 0.0  # share of the packets, each way
    queue_ms: float = 100.0  # what the bottleneck holds at most, as time at its rate


class Host:
    """A machine of its own as far as the network is concerned."""

    def __init__(self, name: str, number: int, congestion: str) -> None:
        self.name = name
        self.address, self.router_address = f"10.99.{number}.2", f"10.99.{number}.1"
        self._congestion = congestion
        self._relay: subprocess.Popen[str] | None = None
        self._tc: list[tuple[Host, str]] = []
        self._processes: list[subprocess.Popen[Any]] = []
        # It holds the namespace, and ends with its stdin: whatever becomes of us.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdin is not None and self._holder.stdout is not None
        try:
            self._holder.stdin.write("ready\n")
            self._holder.stdin.flush()
            made = bool(self._holder.stdout.readline())
        except BrokenPipeError:
            made = False
        if not made:
            self._end()
            raise NotPossible("no network namespace can be made here: root is needed, or NET_ADMIN and SYS_ADMIN")
        self.run("ip", "link", "set", "lo", "up")
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs here, and does not outlive us."""
        return ["nsenter", "--net", "--target", str(self.pid), "setpriv", "--pdeathsig", "KILL"]

    def run(self, *command: str) -> str:
        """Run a command here to its end; returns its output, raises CalledProcessError."""
        return subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True).stdout

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[Any]":
        """Start a command here; it is killed at the end. Options as of subprocess.Popen."""
        self._processes.append(subprocess.Popen([*self.prefix, *command], **options))
        return self._processes[-1]

    def shape(self, shape: Shape) -> None:
        """Change a shaped link; what is on its way keeps its time."""
        self._tell(delay_s=shape.delay_ms / 1000, loss=shape.loss)
        for host, device in self._tc:
            if not shape.rate_mbit:
                host.run("sh", "-c", f"tc qdisc del dev {device} root 2>/dev/null || true")
                continue
            bytes_s = shape.rate_mbit * 125_000
            burst = max(LEAST_BURST_BYTES, int(bytes_s / 1000))
            queue = max(LEAST_QUEUE_BYTES, int(bytes_s * shape.queue_ms / 1000))
            rate = ("rate", f"{shape.rate_mbit}mbit", "burst", str(burst), "limit", str(queue))
            host.run("tc", "qdisc", "replace", "dev", device, "root", "tbf", *rate)

    def cut(self) -> None:
        """From now on every packet is lost, those on their way too; nobody is told."""
        self._tell(cut=True)

    def restore(self) -> None:
        """Undo `cut`."""
        self._tell(cut=False)

    def _tell(self, **changes: float) -> None:
        if self._relay is None:
            raise ValueError(f"the link of {self.name} is a plain one: give it a Shape")
        assert self._relay.stdin is not None and self._relay.stdout is not None
        self._relay.stdin.write(json.dumps(changes) + "\n")
        self._relay.stdin.flush()
        self._relay.stdout.readline()

    def _join(self, router: "Host", port: str, shape: Shape | None) -> None:
        if shape is None:
            self.run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", port, "netns", str(router.pid))
        else:
            self._relay = subprocess.Popen(
                [sys.executable, str(RELAY), str(self.pid), DEVICE, str(router.pid), port],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._relay.stdout is not None
            if not self._relay.stdout.readline():
                raise NotPossible("no TUN device can be made here")
            self._tc = [(self, DEVICE), (router, port)]
        for host, device, address in ((self, DEVICE, self.address), (router, port, self.router_address)):
            host.run("ip", "address", "add", f"{address}/30", "dev", device)
            host.run("ip", "link", "set", device, "up")
        self.run("ip", "route", "add", "default", "via", self.router_address, "congctl", self._congestion)
        if shape is not None:
            self.shape(shape)

    def _end(self) -> None:
        for process in (*self._processes, self._relay, self._holder):
            if process is None:
                continue
            process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait(END_S)


class Laboratory:
    """A router and the hosts around it. A context manager.

    Args:
        congestion: TCP's congestion control in every host, so that figures do not depend on the machine's.

    Raises:
        NotPossible: with what this machine does not allow.
    """

    def __init__(self, congestion: str = "cubic") -> None:
        self.congestion = congestion
        self.hosts: dict[str, Host] = {}
        self._router: Host | None = None

    def __enter__(self) -> "Laboratory":
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise NotPossible(f"{', '.join(missing)} not installed (iproute2, util-linux, procps)")
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            raise NotPossible(
                "/dev/net/tun cannot be opened: root is needed, or a container with NET_ADMIN and the device"
            )
        try:
            self._router = Host("router", 0, self.congestion)
        except subprocess.CalledProcessError as error:
            raise NotPossible(f"{' '.join(error.cmd[6:])}: {error.stderr.strip()}") from None
        return self

    def host(self, name: str, shape: Shape | None = None) -> Host:
        """One more host, on a plain link or on one of this shape."""
        assert self._router is not None, "use it as a context manager"
        number = len(self.hosts) + 1
        host = self.hosts[name] = Host(name, number, self.congestion)
        host._join(self._router, f"port{number}", shape)
        return host

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in (*self.hosts.values(), self._router):
            if host is not None:
                host._end()
