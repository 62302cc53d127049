"""The streams that are open: one per edge, and what is known of each edge's session."""

import asyncio
import logging
from collections import OrderedDict

from cloud_node.admission import Account, Session, check_name
from cloud_node.jobs import Encoding
from cloud_node.settings import Window
from common.errors import FrameTooLarge, Overloaded, StreamRefused
from lamplight.v1 import enhancement_pb2 as pb

log = logging.getLogger(__name__)

SILENCE_S = 2.0  # a holder that says nothing for this long loses its name to a newcomer
MAX_OUTBOX = 4_096  # messages to an edge that does not read


class EdgeStream:
    """One open stream, as the node sees it."""

    def __init__(self, session: Session, encoding: Encoding, window: Window) -> None:
        self.session, self.encoding = session, encoding
        self.account = Account(window)
        self.heard = asyncio.Event()
        self.ended = ""  # why the node ends it
        self._outbox: asyncio.Queue[pb.CloudMessage | None] = asyncio.Queue()

    def send(self, **message: object) -> None:
        """Queue one CloudMessage for the edge."""
        if self._outbox.qsize() >= MAX_OUTBOX:
            self.end(f"edge {self.session.edge} does not read its stream")
        if not self.ended:
            self._outbox.put_nowait(pb.CloudMessage(**message))

    def end(self, reason: str = "closed") -> None:
        """Send what is queued, then end the stream."""
        if not self.ended:
            self.ended = reason
            self._outbox.put_nowait(None)

    async def next(self) -> pb.CloudMessage | None:
        """The next message for the edge; None at the end."""
        return await self._outbox.get()

    def release(self, size: int) -> None:
        """Return the credit of one frame of `size` payload bytes."""
        self.account.credit(size)
        self.send(credit=pb.Credit(frames=1, bytes=size))


class Streams:
    """Which stream holds which edge's name."""

    def __init__(self, window: Window, max_edges: int) -> None:
        self.window, self.max_edges = window, max_edges
        self.live: dict[str, EdgeStream] = {}
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    async def join(self, edge: str, session: str, encoding: Encoding) -> EdgeStream:
        """Give an edge's name to a new stream.

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
        stream = self.live[edge] = EdgeStream(known, encoding, self.window)
        return stream

    def leave(self, stream: EdgeStream) -> None:
        """The stream is over; its session is remembered for a while."""
        stream.end()
        if self.live.get(stream.session.edge) is stream:
            del self.live[stream.session.edge]

    def settled(self, edge: str, session: str, sequence: int) -> None:
        """The node holds this frame no longer."""
        known = self._sessions.get(edge)
        if known is not None and known.session == session:
            known.holding.discard(sequence)

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


class PartAssembler:
    """Puts the parts of frames together: `max_bytes` for one frame, `window_bytes` for several at once."""

    def __init__(self, max_bytes: int, window: Window) -> None:
        self.max_bytes, self.window = max_bytes, window
        self._open: dict[tuple[int, int], tuple[bytearray, int]] = {}

    def add(self, sequence: int, attempt: int, index: int, count: int, total: int, data: bytes) -> bytes | None:
        """Take one part; returns the whole when it was the last.

        Raises:
            FrameTooLarge: for more than `max_bytes`.
            ValueError: with what does not fit.
        """
        key = (sequence, attempt)
        buffer, expected = self._open.pop(key, (bytearray(), 0))
        if index != expected or not 1 <= count <= 65_536 or index >= count:
            raise ValueError(f"part {index} of {count} came where part {expected} was due")
        if total > self.max_bytes:
            raise FrameTooLarge(total, self.max_bytes, "bytes")
        if len(buffer) + len(data) > total:
            raise ValueError(f"parts exceed the {total:,} bytes that were announced")
        buffer += data
        if index + 1 < count:
            held = sum(len(other) for other, _ in self._open.values())
            if self._open and held + len(buffer) > self.window.window_bytes:
                raise ValueError(f"frames in parts exceed the window of {self.window.window_bytes:,} bytes")
            if len(self._open) >= self.window.window_frames:
                raise ValueError(f"more than {self.window.window_frames} frames in parts at once")
            self._open[key] = (buffer, expected + 1)
            return None
        if len(buffer) != total:
            raise ValueError(f"parts hold {len(buffer):,} bytes together, not {total:,}")
        return bytes(buffer)
