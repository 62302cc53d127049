import time

import pytest

from common.frame import Frame, FrameId, Priority
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.telemetry import Timeline
from edge_node.ledger import Flight, Ledger

IMAGE = PackedImage(2, 2, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, b"x")


def flight(ledger: Ledger, priority: Priority = Priority.STANDARD, age_ms: int = 0) -> Flight:
    frame = Frame(FrameId("e", "s", ledger.next_sequence()), IMAGE, time.time_ns(), priority)
    made = Flight(frame, "f", None, 4, Timeline({}), time.monotonic_ns() - age_ms * 1_000_000)
    ledger.add(made)
    return made


def test_a_frame_is_settled_once() -> None:
    ledger = Ledger()
    one = flight(ledger)
    assert ledger.settle(one.sequence) is one
    assert ledger.settle(one.sequence) is None
    assert ledger.settle(99) is None
    assert (ledger.late, len(ledger), one.settled) == (2, 0, True)


def test_what_is_on_its_way_most_urgent_first() -> None:
    ledger = Ledger()
    flights = [flight(ledger, priority) for priority in (Priority.STANDARD, Priority.ESSENTIAL, Priority.STANDARD)]
    for each in flights[:2]:
        each.sent()
    assert [each.sequence for each in ledger.on_way()] == [1, 0]


def test_overdue_again_and_wait_anew() -> None:
    ledger = Ledger()
    old, new = flight(ledger), flight(ledger)
    old.sent()
    new.sent()
    old.waiting_ns -= 3_000_000_000
    assert ledger.overdue(2.0) == [old]
    ledger.wait_anew()
    assert ledger.overdue(2.0) == [] and not old.excused
    ledger.wait_anew(spent_s=1.5)
    assert ledger.overdue(2.0) == [] and set(ledger.overdue(1.0)) == {old, new}
    assert old.excused, "that no result comes is not its fault"
    old.again()
    assert not old.excused
    assert (old.frame.attempt, ledger.on_way()) == (1, [new])
    assert set(old.sent_ns) == {0}, "when each attempt was sent is kept"


def test_age_does_not_follow_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    old = flight(Ledger(), age_ms=100)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 100 <= old.age_ms() < 60_000
