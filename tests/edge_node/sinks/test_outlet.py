"""Messages are delivered in the background, in their order, and what is lost is counted."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from http_receiver import until

from edge_node.sinks.outlet import Message, NotDelivered, Outlet, Refused, close_all


class Way:
    """A carrier that does with a message what the test says."""

    where = "somewhere"

    def __init__(self, send: Callable[[Message], object] = lambda message: None) -> None:
        self.arrived: list[str] = []
        self.opened = self.closed = False
        self._send = send

    async def open(self) -> None:
        self.opened = True

    async def send(self, message: Message) -> None:
        result = self._send(message)
        if asyncio.iscoroutine(result):
            await result
        self.arrived.append(message.id)

    async def close(self) -> None:
        self.closed = True


def put(outlet: Outlet, *ids: str) -> None:
    for name in ids:
        outlet.put(Message(name, b"{}"))


def test_messages_arrive_in_their_order_and_the_rest_at_the_end() -> None:
    way, noted = Way(), list[str]()
    outlet = Outlet("readings", way, on_delivered=noted.append)
    put(outlet, *(str(number) for number in range(50)))
    close_all([outlet])
    assert way.arrived == noted == [str(number) for number in range(50)]
    assert outlet.counts["delivered"] == 50 and way.opened and way.closed


def test_one_that_fails_is_tried_again_before_those_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[str] = []

    def twice_no(message: Message) -> None:
        tries.append(message.id)
        if len(tries) < 3:
            raise NotDelivered("busy")

    way = Way(twice_no)
    outlet = Outlet("readings", way, first_delay_s=0.001)
    put(outlet, "a", "b")
    until(lambda: len(way.arrived) == 2)
    close_all([outlet])
    assert tries == ["a", "a", "a", "b"] and caplog.text.count("busy") == 1 and "works again" in caplog.text


def test_in_turn_one_that_always_fails_holds_up_nobody() -> None:
    def never_a(message: Message) -> None:
        if message.id == "a":
            raise NotDelivered("it answers 500")

    way = Way(never_a)
    outlet = Outlet("alerts", way, in_turn=True, first_delay_s=0.001)
    put(outlet, "a", "b", "c")
    until(lambda: way.arrived == ["b", "c"])
    close_all([outlet])
    assert outlet.counts == {"delivered": 2, "left": 1}


def test_what_is_refused_or_breaks_is_not_tried_again() -> None:
    def refuse(message: Message) -> None:
        if message.id != "c":
            raise {"a": Refused("no"), "b": RuntimeError("a bug")}[message.id]

    way = Way(refuse)
    outlet = Outlet("readings", way)
    put(outlet, "a", "b", "c")
    close_all([outlet])
    assert way.arrived == ["c"] and outlet.counts == {"delivered": 1, "refused": 2}


def test_a_full_queue_drops_the_oldest_and_never_waits(caplog: pytest.LogCaptureFixture) -> None:
    go, reached = threading.Event(), threading.Event()

    async def wait(message: Message) -> None:
        reached.set()
        while not go.is_set():
            await asyncio.sleep(0.005)

    way = Way(wait)
    outlet = Outlet("readings", way, limit=3)
    put(outlet, "0")
    assert reached.wait(60)
    put(outlet, "1", "2", "3", "4", "5")
    go.set()
    close_all([outlet])
    assert way.arrived == ["0", "3", "4", "5"] and outlet.counts == {"delivered": 4, "dropped": 2}
    assert "the oldest are dropped" in caplog.text


def test_what_hangs_is_left_at_the_end_and_said(caplog: pytest.LogCaptureFixture) -> None:
    hanging = Way(lambda message: asyncio.sleep(3600))
    outlet = Outlet("readings", hanging)
    put(outlet, "a", "b")
    close_all([outlet], flush_s=0.05)
    put(outlet, "c")
    assert outlet.counts == {"left": 3} and hanging.closed
    assert "readings to somewhere: 0 delivered, 2 left" in caplog.text


def test_at_the_end_one_try_is_enough_to_know_that_nobody_is_there() -> None:
    tries: list[str] = []

    def nobody(message: Message) -> None:
        tries.append(message.id)
        raise NotDelivered("nobody is there")

    outlet = Outlet("readings", Way(nobody), first_delay_s=3600)
    put(outlet, *"abcdef")
    until(lambda: tries)
    close_all([outlet], flush_s=60)
    assert len(tries) <= 2 and outlet.counts["left"] == 6


def test_what_could_not_be_delivered_for_too_long_is_given_up() -> None:
    def never_a(message: Message) -> None:
        if message.id == "a":
            raise NotDelivered("no")

    way = Way(never_a)
    outlet = Outlet("readings", way, max_age_s=0.0)
    put(outlet, "a", "b")
    close_all([outlet])
    assert way.arrived == ["b"] and outlet.counts == {"delivered": 1, "given up": 1}
