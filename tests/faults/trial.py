"""One run of the laboratory: settle, break things by a plan, settle again, judge."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from invariants import Verdict, judge, out_of_order
from members import Level
from plan import Fault
from town import RETRY_S, Edge, Town

TICK_S: Final = 0.1
SAMPLE_S: Final = 2.0
REST_S: Final = 6.0  # of readings before the first fault, when levels are noted
FEW: Final = 4  # frames in a spool: those that are on their way
MORE_MIB, MORE_SHARE, MORE_FILES = 48.0, 1.3, 12  # by which a process may stay above its level
STOP_S: Final = 30.0
ATTEMPTS: Final = 5  # of an edge node, before a frame waits

Say = Callable[[str], None]


@dataclass(slots=True)
class Trial:
    """What happened. Times are seconds since the first fault could come, by one clock."""

    faults: list[Fault]
    began_s: float = 0.0  # monotonic
    quiet_s: float = 0.0  # when the faults were over
    settled_s: float = 0.0  # when the spools were down to what is on its way
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recoveries: list[tuple[str, str, float]] = field(default_factory=list)  # faults together, edge, seconds
    levels: dict[str, tuple[Level, Level]] = field(default_factory=dict)
    samples: list[tuple[float, str, Level]] = field(default_factory=list)
    held: list[tuple[float, str, int]] = field(default_factory=list)
    inversions: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "faults": [[fault.start_s, fault.end_s, fault.kind, fault.member, fault.strength] for fault in self.faults],
            "seconds": {"of_faults": round(self.quiet_s, 1), "to_settle": round(self.settled_s - self.quiet_s, 1)},
            "edges": {
                verdict.edge: {
                    "readings": verdict.readings,
                    "promised": verdict.promised,
                    "outcomes": dict(verdict.outcomes),
                    "priorities": dict(verdict.priorities),
                    "paths": dict(verdict.paths),
                    "reasons": dict(verdict.reasons),
                }
                for verdict in self.verdicts
            },
            "recoveries": [[what, edge, round(seconds, 2)] for what, edge, seconds in self.recoveries],
            "levels": {
                name: {"rss_mib": [round(one.rss_mib, 1), round(two.rss_mib, 1)], "files": [one.files, two.files]}
                for name, (one, two) in self.levels.items()
            },
            "problems": self.problems,
        }


def wait(town: Town, done: Callable[[], bool], timeout_s: float, trial: Trial | None = None) -> bool:
    """Look after everything until it is done; False when time is up."""
    deadline, sampled_s = time.monotonic() + timeout_s, 0.0
    while not done():
        now_s = time.monotonic()
        if now_s > deadline:
            return False
        town.care()
        if trial is not None and now_s - sampled_s > SAMPLE_S:
            sampled_s = now_s
            sample(town, trial)
        time.sleep(TICK_S)
    return True


def sample(town: Town, trial: Trial) -> None:
    at_s = time.monotonic() - trial.began_s
    for name, member in town.members.items():
        if (level := member.level()) is not None:
            trial.samples.append((at_s, name, level))
    trial.held += [(at_s, name, count) for name, count in town.held().items()]


def run(
    town: Town, faults: Sequence[Fault], seconds: float, say: Say, settle_s: float = 240.0, rest_s: float = REST_S
) -> Trial:
    """Raises TimeoutError when the laboratory does not come up."""
    trial = Trial(list(faults))
    if not wait(town, lambda: all(len(edge.lines) >= 3 for edge in town.edges.values()), 120.0):
        raise TimeoutError("not every edge had readings within 120 s: see the logs")
    say("every edge has readings; noting levels")
    wait(town, lambda: False, rest_s)
    before = {name: level for name, member in town.members.items() if (level := member.level())}

    trial.began_s = time.monotonic()
    for member in town.members.values():
        member.clock_s = trial.began_s
    _break(town, trial, seconds, say)
    trial.quiet_s = time.monotonic() - trial.began_s
    say("the faults are over; waiting for the spools")
    behind = max(trial.quiet_s, seconds)
    settled = wait(town, lambda: _settled(town, trial.began_s + behind), settle_s, trial)
    trial.settled_s = time.monotonic() - trial.began_s
    if not settled:
        trial.problems.append(f"not settled {settle_s:.0f} s after the last fault: the spools hold {town.held()}")
    wait(town, lambda: False, rest_s, trial)  # of quiet, for memory and files
    _compare(town, trial, before)
    say("stopping the edges, and letting each finish what it kept")
    _stop(town, trial)
    trial.recoveries = recoveries(trial, town.edges)
    for name, edge in town.edges.items():
        edge.save(town.folder)
        trial.verdicts.append(verdict := _judge(name, edge))
        trial.problems += verdict.problems
        trial.inversions[name] = sum(len(found) for found in _inversions(edge))
        if trial.inversions[name]:
            trial.problems.append(f"{name}: {trial.inversions[name]} frames left the spool before more urgent ones")
    return trial


def _break(town: Town, trial: Trial, seconds: float, say: Say) -> None:
    coming, going = sorted(trial.faults, key=lambda fault: fault.start_s), list[Fault]()
    sampled_s = 0.0
    while coming or going or time.monotonic() - trial.began_s < seconds:
        now_s = time.monotonic() - trial.began_s
        while coming and coming[0].start_s <= now_s:
            fault = coming.pop(0)
            say(str(fault))
            town.begin(fault)
            going.append(fault)
        for fault in [fault for fault in going if fault.end_s <= now_s]:
            going.remove(fault)
            town.end(fault)
        town.care()
        if now_s - sampled_s > SAMPLE_S:
            sampled_s = now_s
            sample(town, trial)
        time.sleep(TICK_S)


def _settled(town: Town, since_s: float) -> bool:
    """Every edge reads what it captured after the faults, and its spool is down to what is on its way."""
    live = all(edge.lines and edge.lines[-1].captured_s > since_s for edge in town.edges.values())
    return live and all(count <= FEW for count in town.held().values())


def _compare(town: Town, trial: Trial, before: dict[str, Level]) -> None:
    for name, member in town.members.items():
        now, was = member.level(), before.get(name)
        if now is None or was is None:
            trial.problems.append(f"{name} does not run in the end")
            continue
        trial.levels[name] = (was, now)
        if now.rss_mib > was.rss_mib * MORE_SHARE + MORE_MIB:
            trial.problems.append(f"{name} takes {now.rss_mib:.0f} MiB, {was.rss_mib:.0f} before the faults")
        if now.files > was.files + MORE_FILES:
            trial.problems.append(f"{name} has {now.files} files open, {was.files} before the faults")


def _stop(town: Town, trial: Trial) -> None:
    for edge in town.edges.values():
        edge.member.kill(signal.SIGTERM)
    for name, edge in town.edges.items():
        assert edge.member.process is not None
        try:
            code = edge.member.process.wait(STOP_S)
            if code:
                trial.problems.append(f"{name} ended with {code} when it was stopped")
            code = town.finish(edge.member, 2 * STOP_S)
            if code:
                trial.problems.append(f"{name} ended with {code} in its last run")
        except subprocess.TimeoutExpired:
            trial.problems.append(f"{name} did not end within its time")
            edge.member.kill()
        with contextlib.suppress(OSError):
            edge.follow()


def _judge(name: str, edge: Edge) -> Verdict:
    return judge(name, edge.all_lines(), edge.watcher.promised, edge.watcher.look(), disk_was_full=edge.was_full)


def _inversions(edge: Edge) -> list[list[str]]:
    """By run: what left the spool before something more urgent that was there when the run began."""
    found, earlier = [], set[str]()
    for start_s, lines in edge.lines_of_runs():
        former = [(line.at_s, line.said) for line in lines if line.said["session"] in earlier]
        found.append(out_of_order(former, start_s + ATTEMPTS * RETRY_S))
        earlier |= {line.said["session"] for line in lines}
    return found


def recoveries(trial: Trial, edges: dict[str, Edge]) -> list[tuple[str, str, float]]:
    """For each group of faults that overlap, and each edge that they could reach: seconds from the end of the last of
    them to the first reading of a frame captured after it.
    """
    groups: list[list[Fault]] = []
    for fault in sorted(trial.faults, key=lambda fault: fault.start_s):
        if groups and fault.start_s < max(other.end_s for other in groups[-1]):
            groups[-1].append(fault)
        else:
            groups.append([fault])
    found = []
    for number, group in enumerate(groups):
        end_s = trial.began_s + max(fault.end_s for fault in group)
        next_s = trial.began_s + groups[number + 1][0].start_s if number + 1 < len(groups) else float("inf")
        what = " + ".join(f"{fault.kind} {fault.member}" for fault in group)
        for name, edge in edges.items():
            if not any(fault.member == name or not fault.member.startswith("edge") for fault in group):
                continue
            back = next((line.at_s for line in edge.lines if line.captured_s >= end_s), None)
            if back is not None and back < next_s:
                found.append((what, name, back - end_s))
    return found
