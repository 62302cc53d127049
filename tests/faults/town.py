"""The laboratory: cloud nodes, a NATS cluster and edges, each on a host of its own, and what they leave."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from invariants import parse
from laboratory import Laboratory
from members import USUAL, Member, SmallDisk, python
from plan import Fault
from watcher import SpoolWatcher

from common.nats_server import find_server

NATS_PORT, ROUTE_PORT, PORT = 4222, 6222, 50051
RETRY_S: Final = 10
# Each edge looks at something else, so that its pictures can be told from those of the others.
EDGES: Final = (
    ("testsrc", ("--priority", "essential", "--local", "off")),
    ("testsrc2", ("--keep-all", "--priority", "secondary", "--essential-region", "0.1,0.1,0.2,0.2", "--local", "off")),
    ("rgbtestsrc", ("--keep-all",)),  # and lights up by itself while the cloud is away
)  # fmt: skip


@dataclass
class Line:
    """A reading as it came: when by our clock, and what it says."""

    at_s: float  # monotonic
    said: dict[str, Any]

    @property
    def captured_s(self) -> float:
        """By our clock, whatever the edge's says."""
        return self.at_s - (self.said["latency_ms"] or 0.0) / 1e3


@dataclass
class Edge:
    """An edge's disk, and what we saw there."""

    member: Member
    disk: SmallDisk
    watcher: SpoolWatcher
    lines: list[Line] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)  # when each began, monotonic
    was_full: bool = False
    _read: int = 0

    @property
    def readings(self) -> Path:
        return self.disk.path / "readings.jsonl"

    def follow(self) -> int:
        """Take up what was appended to its readings; returns how many lines."""
        try:
            with self.readings.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return 0
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        now_s = time.monotonic()
        found, _ = parse(data)
        self.lines += [Line(now_s, said) for said in found]
        return len(found)

    def all_lines(self) -> list[dict[str, Any]]:
        """What is on its disk."""
        return parse(self.readings.read_bytes())[0] if self.readings.exists() else []

    def save(self, folder: Path) -> None:
        """Its readings, since its disk ends with the laboratory."""
        if self.readings.exists():
            (folder / f"{self.member.name}.jsonl").write_bytes(self.readings.read_bytes())

    def lines_of_runs(self) -> list[tuple[float, list[Line]]]:
        """When each run began, and the readings that it wrote."""
        ends = [*self.runs[1:], float("inf")]
        return [
            (start, [line for line in self.lines if start <= line.at_s < end])
            for start, end in zip(self.runs, ends, strict=True)
        ]


class Town:
    """Everything, started. A context manager.

    Args:
        folder: for logs, stores and the edges' disks.
        fps: what each camera gives.

    Raises:
        NotPossible: with what this machine does not allow.
    """

    def __init__(self, folder: Path, clouds: int = 2, brokers: int = 3, edges: int = 3, fps: int = 2) -> None:
        self.folder, self._counts, self._fps = folder.resolve(), (clouds, brokers, edges), fps
        self.members: dict[str, Member] = {}
        self.edges: dict[str, Edge] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Town":
        with self._stack:
            self._laboratory = self._stack.enter_context(Laboratory())
            self._build()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _build(self) -> None:
        clouds, brokers, edges = self._counts
        hosts = {
            f"{role}-{number}": self._laboratory.host(f"{role}-{number}", USUAL)
            for role, count in (("nats", brokers), ("cloud", clouds), ("edge", edges))
            for number in range(1, count + 1)
        }
        nats = [host for name, host in hosts.items() if name.startswith("nats")]
        urls = ",".join(f"nats://{host.address}:{NATS_PORT}" for host in nats)
        routes = ",".join(f"nats://{host.address}:{ROUTE_PORT}" for host in nats)
        nodes = ",".join(f"{host.address}:{PORT}" for name, host in hosts.items() if name.startswith("cloud"))
        for name, host in hosts.items():
            self._stack.callback(lambda name=name: self.members[name].kill() if name in self.members else None)
            member = self.members[name] = Member(name, host, lambda: (), self.folder)
            if member.role == "nats":
                member.command = lambda name=name, host=host: self._nats(name, host.address, routes)
            elif member.role == "cloud":
                cluster = ("--nats", urls, "--nats-replicas", str(min(3, brokers)))
                arguments = ("--host", "0.0.0.0", "--port", str(PORT), "--device", "cpu", "--threads", "1")
                member.command = lambda cluster=cluster, arguments=arguments: python(
                    "-m", "cloud_node", *arguments, "--insecure", "--preset", "none", *cluster
                )
            else:
                self._make_edge(member, nodes)
        for member in self.members.values():
            self.start(member)

    def _nats(self, name: str, address: str, routes: str) -> list[str]:
        store = self.folder / "store" / name
        single = ["-js", "-n", name, "-a", "0.0.0.0", "-p", str(NATS_PORT), "-sd", str(store)]
        if "," not in routes:
            return [str(find_server()), *single]
        cluster = ["--cluster_name", "town", "--cluster", f"nats://{address}:{ROUTE_PORT}", "--routes", routes]
        return [str(find_server()), *single, *cluster]

    def _make_edge(self, member: Member, nodes: str) -> None:
        disk = SmallDisk(self.folder / member.name)
        self._stack.callback(disk.close)
        member.prefix = disk.prefix
        spool = disk.path / "spool" / member.name
        spool.mkdir(parents=True)
        watcher = SpoolWatcher(spool)
        self._stack.callback(watcher.close)
        self.edges[member.name] = Edge(member, disk, watcher)
        source, more = EDGES[(int(member.name.partition("-")[2]) - 1) % len(EDGES)]
        member.command = lambda: self._edge(member.name, nodes, source, more)

    def _edge(self, name: str, nodes: str, source: str, more: tuple[str, ...], *last: str) -> list[str]:
        picture = f"lavfi:{source}=size=320x240:rate={self._fps}"
        return python(
            "-m", "edge_node", "--camera", picture, "--edge", name, "--cloud", nodes, "--output",
            str(self.folder / name), "--detector", "none", "--gate", "off", "--insecure",
            "--retry-s", str(RETRY_S), *more, *last,
        )  # fmt: skip

    def start(self, member: Member) -> None:
        self._note_run(member)
        member.start()

    def _note_run(self, member: Member) -> None:
        if edge := self.edges.get(member.name):
            edge.follow()
            edge.runs.append(time.monotonic())

    # --- faults ---

    def begin(self, fault: Fault) -> None:
        if fault.kind == "disk":
            edge = self.edges[fault.member]
            edge.was_full = True
            edge.disk.fill(fault.strength > 0.5)
        self.members[fault.member].begin(fault)

    def end(self, fault: Fault) -> None:
        if fault.kind == "disk":
            self.edges[fault.member].disk.free()
        if fault.kind == "kill":
            self._note_run(self.members[fault.member])
        self.members[fault.member].end(fault)

    def care(self) -> None:
        """Start again what ended by itself, take up new readings."""
        for member in self.members.values():
            starts = member.starts
            member.care()
            if member.starts > starts:
                self._note_run(member)
        for edge in self.edges.values():
            edge.follow()

    # --- the end ---

    def held(self) -> dict[str, int]:
        return {name: len(list(edge.watcher.folder.glob("*.frame"))) for name, edge in self.edges.items()}

    def finish(self, member: Member, timeout_s: float) -> int:
        """One more run of an edge that ends by itself once its spool is empty; returns its exit code."""
        command = member.command
        member.command = lambda: [*command(), "--limit", "1"]
        self.start(member)
        member.stopped = True
        assert member.process is not None
        try:
            return member.process.wait(timeout_s)
        finally:
            member.command = command
