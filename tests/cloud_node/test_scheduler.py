"""Each promise of the scheduler, over random arrivals; `select` is asked again before earlier batches end."""

import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice, permutations, product
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud_node import fair_queue
from cloud_node.fair_queue import BEHIND, EDGES
from cloud_node.scheduler import Scheduler, Selection, Ticket

MS = 1_000_000
MAX_PIXELS, MAX_WAIT_MS = 100, 400


def make(max_pixels: int = MAX_PIXELS, max_frames: int = 4, max_wait_ms: int = 1_000, **more: int) -> Scheduler[str]:
    return Scheduler(max_pixels, max_frames, max_wait_ms * MS, **more)


def ticket(job: str, edge: str = "a", priority: int = 2, at_ms: int = 0, **more: Any) -> Ticket[str]:
    fields = {"bucket": "small", "pixels": 10, "bytes": 7, **more}
    return Ticket(edge=edge, priority=priority, arrived_ns=at_ms * MS, job=job, **fields)


def lesser(scheduler: Scheduler[str], new: Ticket[str]) -> list[Ticket[str]]:
    """All that could go for a frame."""
    return [*scheduler.less_urgent(new.priority), *scheduler.rivals(new)]


def names(tickets: list[Ticket[str]]) -> list[str]:
    return [ticket.job for ticket in tickets]


def test_nothing_waits() -> None:
    selection = make().select(0)
    assert selection.batch == [] and selection.expired == [] and selection.wait_until_ns == 0


def test_the_most_urgent_goes_first_and_fills_with_the_next() -> None:
    scheduler = make(max_frames=2)
    for job, priority in (("c", 3), ("b", 2), ("a", 1)):
        scheduler.submit(ticket(job, priority=priority))
    assert names(scheduler.select(0).batch) == ["a", "b"]
    assert names(scheduler.select(0).batch) == ["c"]


def test_edges_of_one_priority_take_turns() -> None:
    scheduler = make(max_frames=1)
    for number in range(3):
        scheduler.submit(ticket(f"loud{number}", edge="loud"))
    scheduler.submit(ticket("quiet", edge="quiet"))
    order = [names(scheduler.select(0).batch)[0] for _ in range(4)]
    assert order == ["loud0", "quiet", "loud1", "loud2"]


def test_a_batch_holds_one_bucket() -> None:
    scheduler = make()
    scheduler.submit(ticket("s1", edge="a"))
    scheduler.submit(ticket("l1", edge="b", bucket="large"))
    scheduler.submit(ticket("s2", edge="c"))
    assert names(scheduler.select(0).batch) == ["s1", "s2"]
    assert names(scheduler.select(0).batch) == ["l1"]


def test_a_large_frame_of_another_bucket_does_not_end_the_batch() -> None:
    scheduler = make(max_pixels=25)
    for edge, bucket, pixels in (("a", "small", 10), ("b", "large", 20), ("c", "small", 10)):
        scheduler.submit(ticket(edge, edge=edge, bucket=bucket, pixels=pixels))
    assert names(scheduler.select(0).batch) == ["a", "c"]


def test_pixels_bound_the_batch_but_one_large_frame_goes_alone() -> None:
    scheduler = make(max_pixels=25)
    for number in range(3):
        scheduler.submit(ticket(str(number)))
    assert names(scheduler.select(0).batch) == ["0", "1"]
    huge = make(max_pixels=25)
    huge.submit(ticket("huge", pixels=1_000))
    assert names(huge.select(0).batch) == ["huge"]


def test_expired_frames_are_told_once_and_never_batched() -> None:
    scheduler = make()
    scheduler.submit(ticket("late", expires_ns=5 * MS))
    scheduler.submit(ticket("never"))
    assert names(scheduler.preview(5 * MS)) == ["never"] and len(scheduler) == 2
    selection = scheduler.select(5 * MS)
    assert (names(selection.batch), names(selection.expired)) == (["never"], ["late"])
    assert scheduler.select(5 * MS) == Selection() and len(scheduler) == 0


def test_a_waiting_frame_is_not_starved_and_essential_waits_for_one_batch_at_most() -> None:
    scheduler = make(max_frames=1, max_wait_ms=100)
    scheduler.submit(ticket("old", edge="slow", priority=3))
    scheduler.submit(ticket("old2", edge="slow2", priority=3))
    order = []
    for number in range(5):
        scheduler.submit(ticket(f"e{number}", priority=1, at_ms=150))
        order += names(scheduler.select(150 * MS).batch)
    assert order == ["old", "e0", "old2", "e1", "e2"]


def test_a_window_lets_a_batch_form() -> None:
    scheduler = make(max_frames=3, window_ns=20 * MS)
    scheduler.submit(ticket("first", at_ms=100))
    assert scheduler.select(105 * MS) == Selection(wait_until_ns=120 * MS)
    scheduler.submit(ticket("second", edge="b", at_ms=110))
    assert scheduler.select(119 * MS) == Selection(wait_until_ns=120 * MS)
    assert names(scheduler.preview(119 * MS)) == ["first", "second"], "to be unpacked while the window is open"
    assert names(scheduler.select(120 * MS).batch) == ["first", "second"]


@pytest.mark.parametrize(
    "more",
    [
        [ticket("essential", priority=1, bucket="large", at_ms=101)],
        [ticket(edge, edge=edge, at_ms=101) for edge in "bc"],  # full
        [ticket("urgent", edge="b", at_ms=101, expires_ns=110 * MS)],  # would expire while the window is open
    ],
)
def test_what_ends_a_window(more: list[Ticket[str]]) -> None:
    scheduler = make(max_frames=3, window_ns=20 * MS)
    scheduler.submit(ticket("first", at_ms=100))
    for each in more:
        scheduler.submit(each)
    assert more[0] in scheduler.select(101 * MS).batch


def test_withdraw_and_remove() -> None:
    scheduler = make()
    tickets = [ticket(edge, edge=edge, expires_ns=9 * MS) for edge in "abac"]
    for each in tickets:
        scheduler.submit(each)
    assert names(scheduler.withdraw(lambda waiting: waiting.edge == "a")) == ["a", "a"]
    assert scheduler.remove(tickets[3]) and not scheduler.remove(tickets[3]) and not scheduler.remove(tickets[0])
    assert names(scheduler.select(9 * MS).expired) == ["b"] and len(scheduler) == 0


def test_a_frame_that_is_given_back_keeps_its_place() -> None:
    scheduler = make(max_frames=1)
    first, second = ticket("first", at_ms=1), ticket("second", at_ms=2)
    scheduler.submit(first)
    assert scheduler.select(0).batch == [first]
    scheduler.submit(second)
    scheduler.submit(first)
    assert scheduler.select(0).batch == [first]


def crowd(*priorities: int) -> Scheduler[str]:
    """Ten frames of each priority, of which all but the most urgent are overdue."""
    scheduler = make(max_frames=1, max_wait_ms=100)
    for priority in priorities:
        for number in range(10):
            scheduler.submit(ticket(f"{priority}.{number}", edge=f"{priority}", priority=priority))
    return scheduler


def test_a_device_that_steps_back_undoes_nothing_of_what_another_began() -> None:
    """Urgent and overdue frames take turns whichever of two devices gives up its batch."""
    scheduler, now_ns = crowd(1, 3), 150 * MS
    overdue, urgent, after = (scheduler.select(now_ns) for _ in range(3))
    assert [each.overdue for each in (overdue, urgent, after)] == [True, False, True]
    scheduler.put_back(overdue)
    assert not scheduler.select(now_ns).overdue, "two in a row would go before the most urgent"

    scheduler = crowd(1, 3)
    _, urgent, overdue, after = (scheduler.select(now_ns) for _ in range(4))
    assert [each.overdue for each in (urgent, overdue, after)] == [False, True, False]
    scheduler.put_back(urgent)
    assert scheduler.select(now_ns).overdue, "what is overdue would wait for two"


def test_overdue_priorities_take_turns_also_when_a_device_steps_back() -> None:
    scheduler, now_ns = crowd(1, 2, 3), 150 * MS
    first = scheduler.select(now_ns)
    led = [scheduler.select(now_ns).batch[0].priority for _ in range(5)]
    assert (first.batch[0].priority, led) == (2, [1, 3, 1, 2, 1])
    scheduler.put_back(first)  # an older batch of 2: the newer one counts
    assert [scheduler.select(now_ns).batch[0].priority for _ in range(4)] == [3, 1, 2, 1]


def test_a_ticket_that_makes_no_sense() -> None:
    scheduler = make()
    for share in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not a positive number"):
            scheduler.submit(ticket("x", share=share))
    twice = ticket("x")
    scheduler.submit(twice)
    with pytest.raises(ValueError, match="submitted twice"):
        scheduler.submit(twice)
    assert len(scheduler) == 1


def test_whatever_of_this_node_the_scheduler_is_made_of_is_held_pure() -> None:
    """The import contract names modules: one that is taken out of it would be free to read clocks."""
    root = Path(__file__).resolve().parents[2]
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [pure] = [contract["source_modules"] for contract in contracts if contract["name"] == "the scheduler is pure"]
    assert "cloud_node.scheduler" in pure
    for module in pure:
        tree = ast.parse((root / f"{module.replace('.', '/')}.py").read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name for name in imported if name.startswith("cloud_node")} <= {*pure}


# --- random arrivals ---

arrivals = st.lists(
    st.tuples(
        st.sampled_from("abcd"),  # edge
        st.integers(1, 3),  # priority
        st.sampled_from([("s", 10), ("m", 40), ("m", 70), ("l", 150)]),  # bucket, pixels
        st.sampled_from([0, 0, 0, 10, 30, 200]),  # ms since the one before
        st.sampled_from([0, 0, 0, 10, 20, 500]),  # deadline, ms
        st.sampled_from([0, 0, 0, 0, 1, 2]),  # batches taken then
    ),
    max_size=50,
)
schedulers = st.builds(make, max_frames=st.integers(1, 5), max_wait_ms=st.sampled_from([0, 50, 400]))


def play(scheduler: Scheduler[str], frames: list[tuple]) -> Iterator[tuple[list[Ticket[str]], Selection[str], int]]:
    """Submit and select in turns until nothing is left: (what waited, what was selected, when) of each selection."""
    now_ms, waiting = 0, []

    def select() -> tuple[list[Ticket[str]], Selection[str], int]:
        before, selection = list(waiting), scheduler.select(now_ms * MS)
        for left in selection.batch + selection.expired:
            waiting.remove(left)
        return before, selection, now_ms * MS

    for number, (edge, priority, (bucket, pixels), gap_ms, deadline_ms, batches) in enumerate(frames):
        now_ms += gap_ms
        expires_ns = (now_ms + deadline_ms) * MS if deadline_ms else 0
        share = 1.0 + "abcd".index(edge) / 2
        waiting.append(
            ticket(
                f"{number}",
                edge,
                priority,
                now_ms,
                bucket=bucket,
                pixels=pixels,
                bytes=number,
                expires_ns=expires_ns,
                share=share,
            )
        )
        scheduler.submit(waiting[-1])
        for _ in range(batches):
            yield select()
    while waiting:
        yield select()
        now_ms += 10
    assert len(scheduler) == 0


@given(schedulers, arrivals)
def test_work_conserving_and_every_frame_leaves_once(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    left: Counter[str] = Counter()
    for waiting, selection, _ in play(scheduler, frames):
        assert selection.batch or len(selection.expired) == len(waiting)
        left.update(names(selection.batch) + names(selection.expired))
    assert left == Counter(map(str, range(len(frames))))


@given(schedulers, arrivals, st.integers(1, 500))
def test_a_window_holds_no_longer_than_it_says(scheduler: Scheduler[str], frames: list[tuple], window_ms: int) -> None:
    scheduler.window_ns = window_ms * MS
    for waiting, selection, now_ns in play(scheduler, frames):
        waiting = [each for each in waiting if each not in selection.expired]
        if waiting and not selection.batch:
            assert now_ns < selection.wait_until_ns == min(each.arrived_ns for each in waiting) + window_ms * MS
            assert all(each.priority > 1 for each in waiting)
            assert all(not each.expires_ns or each.expires_ns > selection.wait_until_ns for each in waiting)
            batch = scheduler.preview(now_ns)
            assert len(batch) < scheduler.max_frames and sum(each.pixels for each in batch) < MAX_PIXELS
        else:
            assert selection.wait_until_ns == 0


@given(schedulers, arrivals)
def test_the_most_urgent_lead_but_for_every_second_batch(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    out_of_turn = False
    for waiting, selection, now_ns in play(scheduler, frames):
        if not selection.batch:
            continue
        lead = selection.batch[0].priority
        urgent = min(each.priority for each in waiting if each not in selection.expired)
        if lead == urgent:
            out_of_turn = False
            continue
        assert not out_of_turn, "two batches in a row went before the most urgent frames"
        out_of_turn = True
        of_lead = [each for each in waiting if each.priority == lead and each not in selection.expired]
        assert any(now_ns - each.arrived_ns >= scheduler.max_wait_ns for each in of_lead)


@given(schedulers, arrivals)
def test_bounds_deadlines_and_order(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    last: dict[tuple[str, int], int] = defaultdict(lambda: -1)
    for waiting, selection, now_ns in play(scheduler, frames):
        batch = selection.batch
        assert len(batch) <= scheduler.max_frames and len({each.bucket for each in batch}) <= 1
        assert len(batch) <= 1 or sum(each.pixels for each in batch) <= scheduler.max_pixels
        assert {*selection.expired} == {each for each in waiting if 0 < each.expires_ns <= now_ns}
        for each in batch:
            assert last[each.edge, each.priority] < int(each.job)
            last[each.edge, each.priority] = int(each.job)


@given(schedulers, arrivals, st.integers(1, 60), st.sampled_from([0.3, 1.0, 3.0]))
def test_what_rivals_hold_is_known_without_a_walk(
    scheduler: Scheduler[str], frames: list[tuple], pixels: int, share: float
) -> None:
    """By which a frame is refused: it must not be too little; and it is no more than a rounding error would make it."""
    for _ in play(scheduler, frames):
        for edge, priority in product(("a", "b", "new"), (1, 2, 3)):
            new = ticket("new", edge=edge, priority=priority, pixels=pixels, share=share)
            rivals = list(scheduler.rivals(new))
            held = (len(rivals), sum(each.bytes for each in rivals), sum(each.pixels for each in rivals))
            told = scheduler.rivals_held(new)
            assert all(one >= least for one, least in zip(told, held, strict=True)) and told[0] <= held[0] + 3


@given(schedulers, arrivals)
def test_a_preview_is_what_select_then_takes(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    seen: list[list[str]] = []
    select = scheduler.select

    def preview_first(now_ns: int) -> Selection[str]:
        seen.append(names(scheduler.preview(now_ns)))
        assert seen[-1] == names(scheduler.preview(now_ns))
        return select(now_ns)

    scheduler.select = preview_first  # type: ignore[method-assign]
    with_previews = [selection for _, selection, _ in play(scheduler, frames)]
    assert seen == [names(selection.batch) for selection in with_previews]
    plain = make(scheduler.max_pixels, scheduler.max_frames, scheduler.max_wait_ns // MS)
    assert seen == [names(selection.batch) for _, selection, _ in play(plain, frames)]


@given(schedulers, arrivals)
def test_what_is_put_back_is_selected_again(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    select, sums = (
        scheduler.select,
        lambda: [(scheduler.pixels_ahead(each), scheduler.bytes_ahead(each)) for each in range(4)],
    )

    def twice(now_ns: int) -> Selection[str]:
        scheduler.preview(now_ns)  # what has expired is out
        before = sums()
        first = select(now_ns)
        if not first.batch:
            return first
        scheduler.put_back(first)
        assert sums() == before
        again = select(now_ns)
        assert first.batch == again.batch and first.overdue == again.overdue and not again.expired
        return replace(again, expired=first.expired)

    scheduler.select = twice  # type: ignore[method-assign]
    for _ in play(scheduler, frames):
        pass


@given(schedulers, arrivals)
def test_only_full_batches_where_asked(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    select = scheduler.select

    def full_first(now_ns: int) -> Selection[str]:
        expected, waiting = scheduler.preview(now_ns), len(scheduler)
        full = select(now_ns, only_full=True)
        pixels = sum(each.pixels for each in expected)
        if len(expected) == scheduler.max_frames or pixels >= scheduler.max_pixels:
            assert full.batch == expected
        if full.batch:
            return full
        assert len(scheduler) == waiting - len(full.expired)
        return replace(select(now_ns), expired=full.expired)

    scheduler.select = full_first  # type: ignore[method-assign]
    for _ in play(scheduler, frames):
        pass


@given(schedulers, arrivals)
def test_sums_and_what_to_give_up(scheduler: Scheduler[str], frames: list[tuple]) -> None:
    for waiting, selection, _ in play(scheduler, frames):
        waiting = [each for each in waiting if each not in selection.batch and each not in selection.expired]
        for priority in range(4):
            assert scheduler.pixels_ahead(priority) == sum(each.pixels for each in waiting if each.priority <= priority)
            assert scheduler.bytes_ahead(priority) == sum(each.bytes for each in waiting if each.priority <= priority)
            assert scheduler.frames_ahead(priority) == sum(each.priority <= priority for each in waiting)
            go = lesser(scheduler, ticket("new", "new", priority))
            assert len(go) == len({*go}) and {*go} <= {*waiting}
            priorities = [each.priority for each in go]
            assert priorities == sorted(priorities, reverse=True) and not any(each < priority for each in priorities)
            assert {*go} >= {each for each in waiting if each.priority > priority}
            for edge, level in product("abcd", range(1, 4)):
                own = [each for each in waiting if (each.edge, each.priority) == (edge, level)]
                gone = [each for each in go if (each.edge, each.priority) == (edge, level)]
                assert gone == own[::-1][: len(gone)], "the newest first"


def test_room_goes_to_the_edge_that_had_less() -> None:
    scheduler = make(max_frames=1)
    for number in range(4):
        scheduler.submit(ticket(f"{number}", edge="loud"))
    assert names(lesser(scheduler, ticket("new", edge="quiet"))) == ["3", "2", "1"]
    assert names(lesser(scheduler, ticket("new", edge="loud"))) == []
    assert names(lesser(scheduler, ticket("new", edge="quiet", pixels=25))) == ["3", "2"], "pixels count"
    assert names(lesser(scheduler, ticket("new", edge="half", share=0.5))) == ["3"]
    assert names(lesser(scheduler, ticket("new", edge="urgent", priority=1))) == ["3", "2", "1", "0"]
    assert names(lesser(scheduler, ticket("new", edge="bulk", priority=3))) == []
    for _ in range(3):
        scheduler.select(0)
    scheduler.submit(ticket("q", edge="quiet"))
    assert names(lesser(scheduler, ticket("new", edge="loud"))) == [], "what was served counts"
    assert names(lesser(scheduler, ticket("new", edge="quiet"))) == ["3"]


def test_an_edge_that_is_turned_away_is_remembered_and_one_that_stays_away_is_not_for_long() -> None:
    scheduler = make(max_frames=1)
    absent = ticket("new", edge="absent")
    lesser(scheduler, absent)
    for number in range(200):
        scheduler.submit(ticket(f"{number}", edge=f"{number % 2}"))
        scheduler.select(0)
    for edge in range(2):
        for number in range(9):
            scheduler.submit(ticket(f"{edge}.{number}", edge=f"{edge}"))
    assert names(lesser(scheduler, absent))[-1] in {"0.0", "1.0", "0.1", "1.1"}, "it is behind them"
    for number in range(BEHIND + 1):
        scheduler.submit(ticket(f"absent.{number}", edge="absent"))
    assert len(lesser(scheduler, absent)) < 18, "but not by a hundred frames"
    for number in range(10_000):
        lesser(scheduler, ticket("new", edge=f"new {number}"))
        scheduler.submit(ticket("next", edge="0"))
        scheduler.select(0)
    [level] = scheduler._levels.values()
    assert len(level._edges) <= EDGES


def test_names_that_are_made_up_without_end_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is turned away, and none is served meanwhile: nobody falls behind."""
    monkeypatch.setattr(fair_queue, "MOST_EDGES", EDGES)
    scheduler = make(max_frames=1)
    waiting = [ticket("0", edge="waits"), ticket("1", edge="waits")]
    for each in waiting:
        scheduler.submit(each)
    for number in range(5 * EDGES):
        lesser(scheduler, ticket("new", edge=f"new {number}"))
        if number % 100 == 0:
            lesser(scheduler, ticket("again", edge="comes again"))
    [level] = scheduler._levels.values()
    assert len(level._edges) <= 2 * EDGES + 2
    assert level._edges["comes again"].came > 5 * EDGES // 100 - 2
    assert [scheduler.select(0).batch for _ in waiting] == [[each] for each in waiting]


def test_those_furthest_behind_are_not_the_ones_forgotten() -> None:
    scheduler = make(max_frames=1)
    for number in range(1_000):
        lesser(scheduler, ticket("refused", edge=f"refused {number}"))
        for _ in range(2):
            scheduler.submit(ticket("next", edge="0"))
            scheduler.select(0)
    [level] = scheduler._levels.values()
    assert len(level._edges) == 1_001


def test_a_frame_of_an_edge_that_was_forgotten_is_put_back_by_its_share() -> None:
    scheduler = make(max_frames=1)
    scheduler.submit(ticket("first", edge="half", share=0.5))
    taken = scheduler.select(0)
    [level] = scheduler._levels.values()
    level._edges.clear()
    scheduler.submit(ticket("other", edge="other"))
    newcomer = level._had + 10 / 0.5
    scheduler.put_back(taken)
    assert level._edges["half"].had == newcomer - 10 / 0.5


# --- starvation and fairness, under a flood ---

LARGEST = 150
loads = st.lists(
    st.tuples(
        st.sampled_from([1.0, 1.0, 0.5, 2.0, 3.0]),  # share
        st.lists(st.sampled_from([("s", 2), ("s", 10), ("s", 30), ("l", 60), ("l", LARGEST)]), min_size=1, max_size=4),
        st.integers(1, 6),  # frames that it keeps waiting
        st.lists(st.booleans(), min_size=1, max_size=8).filter(any),  # whether it does so now, over and over
        st.sampled_from([2, 3, 3]),  # priority
    ),
    min_size=2,
    max_size=5,
)


# Beside an edge whose small frames lead, the first fills up their batches, and the second needs batches of its own.
OUT_OF_TURN = [(1.0, [("s", 10)], 3, [True], 2), (1.0, [("l", LARGEST)], 2, [True], 2)]


class Flood:
    """Edges that keep the scheduler full, and what it gave them."""

    def __init__(self, scheduler: Scheduler[str], edges: list[tuple], essential: int = 0) -> None:
        self.scheduler, self.essential = scheduler, essential
        self.edges = [
            (f"{index}", share, cycle(sizes), depth, cycle(rhythm), priority)
            for index, (share, sizes, depth, rhythm, priority) in enumerate(edges)
        ]
        self.waiting: dict[str, list[Ticket[str]]] = defaultdict(list)  # of each edge
        self.now_ms = self.number = 0

    def submit(self, edge: str, priority: int, size: tuple[str, int], share: float = 1.0) -> None:
        self.number += 1
        made = ticket(f"{self.number}", edge, priority, self.now_ms, bucket=size[0], pixels=size[1], share=share)
        self.waiting[edge].append(made)
        self.scheduler.submit(made)

    def round(self) -> list[Ticket[str]]:
        """Everybody sends, then one batch is taken."""
        self.now_ms += 10
        for edge, share, sizes, depth, rhythm, priority in self.edges:
            sends = next(rhythm)
            while sends and len(self.waiting[edge]) < depth:
                self.submit(edge, priority, next(sizes), share)
        for _ in range(self.essential):
            self.submit("essential", 1, ("s", 10))
        batch = self.scheduler.select(self.now_ms * MS).batch
        for each in batch:
            self.waiting[each.edge].remove(each)
        return batch


@settings(max_examples=examples(60))
@given(loads, st.integers(1, 5), st.sampled_from([0, 100, 400]))
def test_no_frame_starves(edges: list[tuple], max_frames: int, max_wait_ms: int) -> None:
    """Endless essential frames, and many that are overdue at once."""
    flood = Flood(make(max_frames=max_frames, max_wait_ms=max_wait_ms), edges, essential=max_frames + 1)
    priorities = {1} | {edge[-1] for edge in edges}
    since_led = dict.fromkeys(priorities, 0)  # batches of others, while a frame was overdue
    overdue: dict[Ticket[str], tuple[int, Counter[str], Counter[str]]] = {}  # pixels before it; leads of others, last
    for _ in range(80):
        before = {edge: list(frames) for edge, frames in flood.waiting.items()}
        batch = flood.round()
        lead = batch[0]
        for frames in before.values():
            for place, each in enumerate(frames):
                if each.priority > 1 and (flood.now_ms * MS - each.arrived_ns) >= max_wait_ms * MS:
                    own = sum(other.pixels for other in frames[:place])
                    overdue.setdefault(each, (own, Counter(), Counter()))
        for priority in priorities - {1}:
            late = any(each.priority == priority for each in overdue)
            since_led[priority] = since_led[priority] + 1 if late and lead.priority != priority else 0
            assert since_led[priority] < 2 * (len(priorities) - 1)
        for each, (own, led, last) in overdue.items():
            if lead.priority == each.priority and lead.edge != each.edge:
                led[lead.edge] += last[lead.edge]
                last[lead.edge] = lead.pixels
                allowed = lead.share / each.share * (MAX_PIXELS + LARGEST + own)
                assert led[lead.edge] <= allowed + 1e-6, "another edge went before it too often"
        for each in batch:
            overdue.pop(each, None)


@settings(max_examples=examples(20))
@given(st.integers(1, 6), st.integers(1, 8))
def test_an_endless_flow_of_new_edges_holds_nobody_up(new: int, own: int) -> None:
    scheduler = make(max_frames=1)
    for number in range(own):
        scheduler.submit(ticket(f"own{number}", edge="own"))
    served: list[str] = []
    for number in range((own + 1) * (new + 2)):
        while len(scheduler) - own + len(served) < new:
            scheduler.submit(ticket("new", edge=f"{number} {len(scheduler)}"))
        served += [each.job for each in scheduler.select(0).batch if each.edge == "own"]
    assert len(served) == own


@settings(max_examples=examples(100))
@given(loads, st.integers(1, 6), st.sampled_from([0, 100, 10_000]), st.booleans())
@example([(1.0, [("s", 2), ("l", 2)], 2, [True], 2), *OUT_OF_TURN], 6, 0, False)
@example([(1.0, [("s", 2)], 1, [True], 2), *OUT_OF_TURN], 6, 0, False)
def test_edges_share_by_pixels(edges: list[tuple], max_frames: int, max_wait_ms: int, one_bucket: bool) -> None:
    """While an edge has frames waiting, no other edge gets ahead by more than a constant, whatever that one does."""
    if one_bucket:
        edges = [(share, [("s", size) for _, size in sizes], *rest) for share, sizes, *rest in edges]
    flood = Flood(make(max_frames=max_frames, max_wait_ms=max_wait_ms), edges)
    got: Counter[str] = Counter()
    least: dict[tuple[str, str], float] = {}  # of got[other] - got[edge], while the edge waits
    share, priority = ({f"{index}": edge[field] for index, edge in enumerate(edges)} for field in (0, -1))
    ahead = 0 if one_bucket else MAX_PIXELS
    bound = {f"{index}": (ahead + max(size for _, size in edge[1])) / edge[0] for index, edge in enumerate(edges)}
    for _ in range(80):
        for each in flood.round():
            got[each.edge] += each.pixels / each.share
        for edge, other in permutations(share, 2):
            if priority[edge] == priority[other] and flood.waiting[edge]:
                difference = got[other] - got[edge]
                least[edge, other] = min(difference, least.get((edge, other), difference))
                assert difference - least[edge, other] <= bound[edge] + bound[other] + 1e-6
            else:
                least.pop((edge, other), None)


@settings(max_examples=examples(15))
@given(
    st.lists(
        st.lists(st.sampled_from([("s", 5), ("s", 20), ("l", 50)]), min_size=1, max_size=4), min_size=2, max_size=4
    )
)
def test_equal_edges_differ_by_less_than_a_twentieth_in_the_long_run(sizes: list[list[tuple[str, int]]]) -> None:
    flood = Flood(make(max_frames=4), [(1.0, each, 5, [True], 2) for each in sizes])
    got: Counter[str] = Counter()
    while sum(got.values()) < 4_000 * len(sizes):
        for each in flood.round():
            got[each.edge] += each.pixels
    assert max(got.values()) / min(got.values()) < 1.05


@given(st.lists(st.tuples(st.sampled_from([5, 20, 60]), st.sampled_from([5, 20, 60])), min_size=1, max_size=5))
def test_an_edge_that_has_one_frame_at_a_time_gets_no_more_and_no_less(sizes: list[tuple[int, int]]) -> None:
    scheduler, got = make(max_frames=1), {"one": 0, "many": 0}
    steady = islice(cycle(sizes), 150)
    for number in range(5):
        scheduler.submit(ticket(f"{number}", edge="many", pixels=sizes[0][1]))
    scheduler.submit(ticket("one", edge="one", pixels=sizes[0][0]))
    for one, many in steady:
        [taken] = scheduler.select(0).batch
        got[taken.edge] += taken.pixels
        scheduler.submit(ticket("next", edge=taken.edge, pixels=one if taken.edge == "one" else many))
        assert abs(got["one"] - got["many"]) <= 2 * 60


@given(st.integers(2, 6), st.integers(1, 20))
def test_equal_edges_share_evenly(edges: int, rounds: int) -> None:
    scheduler = make(max_frames=1)
    for edge in range(edges):
        for number in range(rounds * (1 + edge)):  # whatever each one sends
            scheduler.submit(ticket(f"{number}", edge=str(edge)))
    served = Counter(scheduler.select(0).batch[0].edge for _ in range(edges * rounds))
    assert set(served.values()) == {rounds}


@settings(deadline=None)
@given(
    st.builds(make, max_frames=st.integers(1, 2), max_wait_ms=st.sampled_from([0, 20])),
    arrivals,
    st.lists(st.integers(0, 3), min_size=20, max_size=60),
)
def test_the_most_urgent_lead_but_for_every_second_batch_of_those_that_began(
    scheduler: Scheduler[str], frames: list[tuple], steps: list[int]
) -> None:
    """Of several devices, each with a batch that may step back: what stands then is what had its turn."""
    stands: list[Selection[str]] = []
    steps_back = iter(steps)

    def turn(now_ns: int) -> Selection[str]:
        if stands and (back := next(steps_back, 0)):
            scheduler.put_back(stands.pop(-min(back, len(stands))))
        scheduler.preview(now_ns)  # what has expired is out
        waiting = list(scheduler._waiting)
        chosen = select(now_ns)
        if chosen.batch:
            urgent = min(each.priority for each in waiting)
            late = any(each.priority > urgent and now_ns - each.arrived_ns >= scheduler.max_wait_ns for each in waiting)
            assert chosen.overdue == (late and not (stands and stands[-1].overdue))
            stands.append(chosen)
        return chosen

    select, now_ms = scheduler.select, 0
    for number, (edge, priority, (bucket, pixels), gap_ms, deadline_ms, batches) in enumerate(frames):
        now_ms += gap_ms
        expires_ns = (now_ms + deadline_ms) * MS if deadline_ms else 0
        scheduler.submit(
            ticket(f"{number}", edge, priority, now_ms, bucket=bucket, pixels=pixels, expires_ns=expires_ns)
        )
        for _ in range(batches):
            turn(now_ms * MS)
    while len(scheduler):
        turn(now_ms * MS)
        now_ms += 10
