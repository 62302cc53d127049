"""The streams that are open: one per edge, and what is known of each edge's session."""

import asyncio
import logging
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cloud_node.settings import Window
from common.errors import Overloaded, StreamRefused
from lamplight.v1 import enhancement_pb2 as pb

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
REMEMBERED = 64  # sequences per session, to know a frame that comes twice; the window is far smaller
SILENCE_S = 2.0  # a holder that says nothing for this long loses its name to a newcomer
MAX_OUTBOX = 4_096  # messages to an edge that does not read
FLUSH_S = 5.0  # for the last messages of a stream that ends
MAX_BEYOND = 32  # frames beyond the window; an edge that sends more does not look at it
CLOSED = "closed"


def check_name(kind: str, name: str) -> None:
    """Raises StreamRefused unless the name fits into a NATS subject and a path."""
    if not NAME.fullmatch(name):
        raise StreamRefused(f"{kind} name {name[:80]!r}: use 1 to 64 of A-Z a-z 0-9 _ -")


@dataclass(slots=True)
class Session:
    """What a node knows of one start of an edge node, across its streams."""

    edge: str
    session: str
    attempts: "OrderedDict[int, int]" = field(default_factory=OrderedDict)  # sequence -> last attempt seen
    holding: dict[int, int] = field(default_factory=dict)  # accepted, no result published yet -> last attempt seen

    def seen(self, sequence: int, attempt: int) -> bool:
        """Whether this attempt, or a later one, came before; remembers it."""
        known = self.attempts.get(sequence)
        if known is not None and attempt <= known:
            return True
        self.attempts[sequence] = attempt
        self.attempts.move_to_end(sequence)
        while len(self.attempts) > REMEMBERED:
            self.attempts.popitem(last=False)
        return False

    def forget(self, sequence: int) -> None:
        """It was turned away: the same attempt may come again."""
        self.attempts.pop(sequence, None)


@dataclass(slots=True)
class Account:
    """What a stream has out: sent, and not credited yet.

    `window_frames` is what the edge was told: the frames that it has out and those that it may still send.
    """

    window_frames: int
    window_bytes: int
    frames: int = 0
    bytes: int = 0

    def charge(self, size: int) -> bool:
        """Take a frame in; False when it is beyond the window (a lone large frame is not)."""
        fits = self.frames < self.window_frames and (self.frames == 0 or self.bytes + size <= self.window_bytes)
        self.frames += 1
        self.bytes += size
        return fits

    def credit(self, size: int, target: int) -> int:
        """A frame is out no longer; returns the frames to credit for it: 0 narrows the window towards `target`,
        2 widen it.
        """
        self.frames -= 1
        self.bytes -= size
        change = (target > self.window_frames) - (target < self.window_frames)
        self.window_frames += change
        return 1 + change


@dataclass(slots=True)
class Traffic:
    """What came over all streams and calls since the start."""

    opened: int = 0  # streams
    frames: int = 0
    bytes: int = 0  # of their payloads
    rejected: Counter[int] = field(default_factory=Counter)  # by RejectReason


class EdgeStream:
    """One open stream, as the node sees it."""

    def __init__(self, session: Session, window: Window, traffic: Traffic | None = None) -> None:
        self.session = session
        self.account = Account(window.window_frames, window.window_bytes)
        self.traffic = traffic or Traffic()
        self.frames = 0  # that came, since it opened
        self.heard = asyncio.Event()
        self.ended = ""  # why the node ends it
        self.beyond = 0  # frames that came beyond the window
        self._outbox: deque[pb.CloudMessage] = deque()
        self._credit = (0, 0)  # frames and bytes that the edge is still to be told of
        self._more = asyncio.Event()
        self._limit: asyncio.Timeout | None = None

    def send(self, **message: object) -> None:
        """Queue one CloudMessage for the edge."""
        if len(self._outbox) >= MAX_OUTBOX:
            self.end(f"edge {self.session.edge} does not read its stream")
        if not self.ended:
            self._outbox.append(pb.CloudMessage(**message))
            self._more.set()

    def reject(self, sequence: int, attempt: int, reason: int, detail: str, retry_after_ms: int = 0) -> None:
        """No result of this frame will come from here, unless it is sent again."""
        log.info("edge %s: frame %d rejected: %s", self.session.edge, sequence, detail)
        self.traffic.rejected[reason] += 1
        self.send(
            rejected=pb.Rejected(
                sequence=sequence, attempt=attempt, reason=reason, detail=detail, retry_after_ms=retry_after_ms
            )
        )

    def charge(self, size: int) -> bool:
        """A frame of `size` payload bytes came; False when it is beyond the window, which ends the stream in time."""
        self.frames += 1
        self.traffic.frames += 1
        self.traffic.bytes += size
        if self.account.charge(size):
            return True
        self.beyond += 1
        if self.beyond > MAX_BEYOND:
            self.end(f"{self.beyond} frames came beyond the window: wait for credit")
        return False

    def release(self, size: int, target: int) -> None:
        """Return the credit of one frame, while the window of this edge should have `target` frames."""
        frames = self.account.credit(size, target)
        self._credit = (self._credit[0] + frames, self._credit[1] + size)
        self._more.set()

    def end(self, reason: str = CLOSED) -> None:
        """Send what is queued, then end the stream."""
        if not self.ended:
            self.ended = reason
            self._more.set()
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time() + FLUSH_S)

    async def write_to(self, write: Callable[[pb.CloudMessage], Awaitable[None]], opened: pb.CloudMessage) -> None:
        """Write `opened`, then what comes, until the end; who does not read the last messages is not waited for."""
        try:
            async with asyncio.timeout(FLUSH_S if self.ended else None) as self._limit:
                await write(opened)
                while (message := await self.next()) is not None:
                    await write(message)
        except TimeoutError:
            self._outbox.clear()
        finally:
            self._limit = None

    async def next(self) -> pb.CloudMessage | None:
        """The next message for the edge; None at the end."""
        while True:
            if self._outbox:
                return self._outbox.popleft()
            frames, size = self._credit
            if frames or size:
                self._credit = (0, 0)
                return pb.CloudMessage(credit=pb.Credit(frames=frames, bytes=size))
            if self.ended:
                return None
            self._more.clear()
            await self._more.wait()


class Streams:
    """Which stream holds which edge's name. Sessions of edges that left are remembered, 2 x `max_edges` in all."""

    def __init__(self, window: Window, max_edges: int) -> None:
        self.window, self.max_edges = window, max_edges
        self.live: dict[str, EdgeStream] = {}
        self.traffic = Traffic()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    async def join(self, edge: str, session: str, window: Window | None = None) -> EdgeStream:
        """Give an edge's name to a new stream, with the node's window or a narrower one.

        A stream of the same session fences the old one at once. Another session gets the name only if the
        holder stays silent for SILENCE_S.

        Raises:
            StreamRefused: for a bad name, or a name that is held.
            Overloaded: for too many edges.
        """
        check_name("edge", edge)
        check_name("session", session)
        while holder := self.live.get(edge):
            if holder.session.session == session:
                holder.end("a newer stream of this session took over")
                break
            if await self._answers(holder):
                raise StreamRefused(
                    f"edge name '{edge}' is in use by another session: give this edge another --edge name"
                )
            if self.live.get(edge) is holder:
                log.warning("edge %s: session %s fell silent, %s takes over", edge, holder.session.session, session)
                holder.end("another session took over while this one was silent")
                break
        if edge not in self.live and len(self.live) >= self.max_edges:
            raise Overloaded(f"this node serves {self.max_edges} edges already: raise --max-edges or add a node")
        known = self._sessions.get(edge)
        if known is None or known.session != session:
            known = self._sessions[edge] = Session(edge, session)
        self._sessions.move_to_end(edge)
        self._trim()
        stream = self.live[edge] = EdgeStream(known, window or self.window, self.traffic)
        self.traffic.opened += 1
        return stream

    def leave(self, stream: EdgeStream) -> None:
        """The stream is over; its session is remembered for a while."""
        stream.end()
        if self.live.get(stream.session.edge) is stream:
            del self.live[stream.session.edge]

    def settled(self, edge: str, session: str, sequence: int) -> None:
        """The node holds this frame no longer."""
        known = self._known(edge, session)
        if known is not None:
            known.holding.pop(sequence, None)

    def give_back(
        self, edge: str, session: str, sequence: int, attempt: int, reason: int, detail: str, retry_after_ms: int = 0
    ) -> None:
        """An accepted frame gets no result after all: forget it, and tell the edge if it is there.

        An edge that is away learns it from the next Opened, which does not list the frame as held.
        """
        known = self._known(edge, session)
        if known is None:
            return
        attempt = max(attempt, known.holding.pop(sequence, 0))  # it may have come again meanwhile
        known.forget(sequence)
        stream = self.live.get(edge)
        if stream is not None and stream.session is known:
            stream.reject(sequence, attempt, reason, detail, retry_after_ms)

    def _known(self, edge: str, session: str) -> Session | None:
        known = self._sessions.get(edge)
        return known if known is not None and known.session == session else None

    def _trim(self) -> None:
        for edge in list(self._sessions):
            if len(self._sessions) <= 2 * self.max_edges:
                return
            if edge not in self.live:
                del self._sessions[edge]

    async def _answers(self, holder: EdgeStream) -> bool:
        holder.heard.clear()
        holder.send(probe=pb.Probe())
        try:
            async with asyncio.timeout(SILENCE_S):
                await holder.heard.wait()
        except TimeoutError:
            return False
        return not holder.ended
