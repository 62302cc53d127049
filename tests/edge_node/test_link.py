"""The meter, fed by a link that is played: bytes go at a rate, and acknowledgements come a round trip later."""

from itertools import count

import pytest

from edge_node.link import FIRST_PART_BYTES, LEAST_PART_BYTES, PART_S, STALL_S, LinkMeter

WIDE, NARROW = 10**6, 10**5  # bytes/s
LIMIT = 1 << 20


class Played:
    """One frame after the other over a link of `rate` bytes/s and a round trip, whose queue holds next to nothing."""

    def __init__(self, rate: float, round_trip_s: float) -> None:
        self.rate, self.round_trip_s = rate, round_trip_s
        self.meter, self.now_s, self.keys = LinkMeter(), 100.0, count()
        self.acknowledgements: list[tuple[float, tuple[int, int]]] = []

    def frame(self, size: int, part: int = 10_000) -> None:
        key = (next(self.keys), 0)
        for start in range(0, size, part):
            self._acknowledge()
            piece = min(part, size - start)
            self.meter.writing(key, piece, self.now_s)
            self.now_s += piece / self.rate
            self.meter.wrote(key, self.now_s)
        self.acknowledgements.append((self.now_s + self.round_trip_s, key))

    def idle(self, seconds: float) -> None:
        self.meter.pause()
        self.now_s += seconds
        self._acknowledge()

    def _acknowledge(self) -> None:
        while self.acknowledgements and self.acknowledgements[0][0] <= self.now_s:
            at_s, key = self.acknowledgements.pop(0)
            self.meter.arrived(key, at_s)


@pytest.mark.parametrize("round_trip_s", [0.001, 0.06, 0.6])
def test_a_busy_link(round_trip_s: float) -> None:
    link = Played(WIDE, round_trip_s)
    for _ in range(20):
        link.frame(500_000)
    assert link.meter.rate == pytest.approx(WIDE, rel=0.1)
    assert link.meter.round_trip_s == pytest.approx(round_trip_s, rel=0.1)


def test_single_frames_with_nothing_in_between() -> None:
    link = Played(WIDE, 0.06)
    for _ in range(10):
        link.frame(500_000)
        link.idle(5.0)
    assert link.meter.rate == pytest.approx(WIDE, rel=0.15)


def test_a_source_that_sends_little_says_nothing_of_the_link() -> None:
    link = Played(WIDE, 0.2)
    for _ in range(10):
        link.frame(500_000)
    for _ in range(50):
        link.frame(20_000)
        link.idle(0.1)
    assert link.meter.rate == pytest.approx(WIDE, rel=0.2)


def test_it_follows_a_link_that_narrows_and_widens() -> None:
    link = Played(WIDE, 0.06)
    for _ in range(10):
        link.frame(500_000)
    link.rate = NARROW
    link.frame(500_000)
    assert link.meter.rate_now(link.now_s) < 3 * NARROW, "before any acknowledgement of the narrow link"
    for _ in range(20):
        link.frame(500_000)
    assert link.meter.rate == pytest.approx(NARROW, rel=0.2)
    link.rate = WIDE
    for _ in range(10):
        link.frame(500_000)
    assert link.meter.rate == pytest.approx(WIDE, rel=0.2)


def test_overtaken_frames_count_once() -> None:
    """An essential frame ends before the bulk frame that it overtook."""
    meter = LinkMeter()
    meter.writing((0, 0), 100_000, 0.0)
    meter.writing((1, 0), 50_000, 0.1)
    meter.writing((0, 0), 100_000, 0.15)
    meter.arrived((1, 0), 0.16)
    assert meter.in_flight == 100_000
    meter.arrived((0, 0), 0.26)
    meter.arrived((0, 0), 0.27)  # a second answer to one frame
    assert meter.in_flight == 0


def test_parts_are_a_time_of_the_link() -> None:
    meter = LinkMeter()
    assert meter.part_bytes(LIMIT, 0.0) == FIRST_PART_BYTES
    for rate, size in ((WIDE, int(WIDE * PART_S)), (1000, LEAST_PART_BYTES), (10**9, LIMIT)):
        meter.rate = rate
        assert meter.part_bytes(LIMIT, 0.0) == size


def test_frames_ahead() -> None:
    meter = LinkMeter()
    assert meter.frames_ahead(4) == 4, "until it is known"
    meter.rate, meter.round_trip_s, meter.frame_bytes = WIDE, 0.06, 500_000
    assert meter.frames_ahead(4) == 2
    meter.round_trip_s = 1.2
    assert meter.frames_ahead(4) == 4 and meter.frames_ahead(1) == 1
    meter.frame_bytes = 1_000
    meter.round_trip_s = 0.06
    assert meter.frames_ahead(4) == 4, "small ones wait for nobody"


def test_a_slow_link_is_no_dead_link() -> None:
    meter = LinkMeter()
    assert meter.stall_s() == STALL_S
    meter.rate = 10_000
    meter.writing((0, 0), 100_000, 0.0)
    assert meter.stall_s() == STALL_S + 20
    meter.restart()
    assert meter.stall_s() == STALL_S and meter.rate == 10_000
