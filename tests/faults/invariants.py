"""What must be true once everything has settled, judged by what is on disk: pure."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

# A kept frame that ends so was promised no more: its disk was full, by our own doing.
GIVEN_UP: Final = ("the spool was full",)
ORDER_S: Final = 1.5  # between two looks at the spool, and what was on its way by then


@dataclass(slots=True)
class Verdict:
    """Of one edge. `problems` are broken promises, in words; the rest is counted."""

    edge: str
    readings: int = 0
    promised: int = 0
    problems: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    priorities: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of what failed


def parse(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """The lines of a readings.jsonl that are whole, and how many are not."""
    lines, broken = [], 0
    for row in data.splitlines():
        try:
            lines.append(json.loads(row))
        except ValueError:
            broken += bool(row.strip())
    return lines, broken


def judge(
    edge: str,
    lines: Sequence[dict[str, Any]],
    promised: Collection[str],
    held: Collection[str] = (),
    *,
    disk_was_full: bool = False,
    sharpness: tuple[float, float] | None = None,
) -> Verdict:
    """Judge one edge.

    Args:
        lines: its readings, in their order.
        promised: frames ("edge/session/sequence") that were whole in its spool at some time.
        held: frames that are in its spool at the end.
        disk_was_full: kept frames may have been given up for that.
        sharpness: least and most that the cloud may have measured on this edge's pictures; none is known: None.
    """
    verdict = Verdict(edge, len(lines), len(promised))
    seen = Counter(line["frame"] for line in lines)
    verdict.outcomes = Counter(line["outcome"] for line in lines)
    verdict.priorities = Counter(line["priority"] for line in lines)
    verdict.paths = Counter(line["path"] for line in lines)
    _say(verdict, "has no reading and was promised one", sorted(set(promised) - set(seen) - set(held)))
    _say(verdict, "is still in the spool", sorted(held))
    _say(verdict, "has more than one reading", sorted(frame for frame, count in seen.items() if count > 1))
    _say(verdict, "belongs to another edge", sorted(frame for frame in seen if frame.partition("/")[0] != edge))
    failed = [line for line in lines if line["outcome"] not in ("enhanced", "as_is")]
    verdict.reasons = Counter(_plain(line["reason"]) for line in failed)
    known = set(promised)
    lost = [
        f"{line['frame']} ({line['reason']})"
        for line in failed
        if line["frame"] in known and not (disk_was_full and line["reason"].startswith(GIVEN_UP))
    ]
    _say(verdict, "was kept and failed all the same", lost)
    if sharpness is not None:
        least, most = sharpness
        foreign = [
            f"{line['frame']} ({value})"
            for line in lines
            if (value := line["sharpness"]["before"]) is not None and value and not least <= value <= most
        ]
        _say(verdict, "came back with another edge's picture", foreign)
    return verdict


def out_of_order(lines: Iterable[tuple[float, dict[str, Any]]], tried_again_s: float = inf) -> list[str]:
    """Frames that were sent from the spool in one run of an edge though a more urgent one had waited there by then.

    Args:
        lines: when each reading came, by our clock, and what it says; those that one run wrote, of frames that were in
            the spool when it began.
        tried_again_s: by our clock, from when on a frame may have been sent before, to no avail, and wait for that.
    """
    sent: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for at_s, line in lines:
        stages = line["stages_ms"]
        if "spool" in stages and "uplink" in stages:  # not one whose result came by itself
            when = at_s - (line["latency_ms"] - stages["spool"]) / 1e3
            sent[line["priority"]].append((when, line["frame"]))
    last = max((when for when, _ in sent["essential"] if when < tried_again_s), default=-inf)
    return [frame for name in ("standard", "secondary") for when, frame in sent[name] if when < last - ORDER_S]


def _say(verdict: Verdict, what: str, frames: Sequence[str]) -> None:
    if frames:
        shown = ", ".join(frames[:5]) + (f" and {len(frames) - 5} more" if len(frames) > 5 else "")
        verdict.problems.append(f"{verdict.edge}: {len(frames)} x {what}: {shown}")


def _plain(reason: str) -> str:
    """A reason without what differs from frame to frame."""
    return "".join("#" if letter.isdigit() else letter for letter in reason)[:80]
