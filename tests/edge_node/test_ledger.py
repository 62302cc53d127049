import time

from common.frame import Frame, FrameId, Outcome, Priority
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.telemetry import Timeline
from edge_node.ledger import Flight, Ledger

IMAGE = PackedImage(2, 2, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, b"x")


def flight(ledger: Ledger, priority: Priority = Priority.STANDARD, captured_ns: int | None = None) -> Flight:
    frame = Frame(FrameId("e", "s", ledger.next_sequence()), IMAGE, captured_ns or time.time_ns(), priority)
    made = Flight(frame, "f", None, 4, Timeline({}))
    ledger.add(made)
    return made


def test_a_frame_is_settled_once() -> None:
    ledger = Ledger()
    one = flight(ledger)
    assert ledger.settle(one.sequence, Outcome.ENHANCED) is one
    assert ledger.settle(one.sequence, Outcome.ENHANCED) is None
    assert ledger.settle(99, Outcome.FAILED) is None
    assert (ledger.outcomes[Outcome.ENHANCED], ledger.late, len(ledger), one.settled) == (1, 2, 0, True)


def test_what_is_on_its_way_most_urgent_first() -> None:
    ledger = Ledger()
    flights = [flight(ledger, priority) for priority in (Priority.STANDARD, Priority.ESSENTIAL, Priority.STANDARD)]
    for each in flights[:2]:
        each.sent_unix_ns = time.time_ns()
    assert [each.sequence for each in ledger.sent()] == [1, 0]


def test_overdue_and_again() -> None:
    ledger = Ledger()
    old, new = flight(ledger), flight(ledger)
    old.sent_unix_ns, new.sent_unix_ns = time.time_ns() - 3_000_000_000, time.time_ns()
    assert ledger.overdue(2.0) == [old]
    old.again()
    assert (old.frame.attempt, old.sent_unix_ns, ledger.overdue(2.0)) == (1, 0, [])


def test_deadline() -> None:
    ledger = Ledger()
    old = flight(ledger, captured_ns=time.time_ns() - 100_000_000)
    assert old.expired(100) and not old.expired(10_000) and not old.expired(0)
