"""The node's live page, `/live`: what its last ten minutes were like, and what it does now. Also `/metrics`.

Everything comes from this node: no other address is asked, and the page may run no script but its own. While nobody
looks, a line of numbers is noted each second and nothing more.
"""

import asyncio
import json
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from cloud_node.admission import Admission
from cloud_node.metrics import REASONS, Activity, word
from cloud_node.publisher import Publisher
from cloud_node.scheduler import Scheduler
from cloud_node.streams import EdgeStream, Streams
from cloud_node.supervisor import Supervisor
from common.frame import Outcome, Priority
from common.metrics import CONTENT_TYPE

log = logging.getLogger(__name__)

KEPT_S: Final = 600
VIEWERS: Final = 16  # pages open at once
EDGES: Final = 100  # shown, the busiest first
USE_S: Final = 5  # device use and edges' rates are told over so many seconds: a batch counts when it ends
HERE: Final = Path(__file__).parent / "web"
COMMON: Final = Path(__file__).parent.parent / "common" / "web"
FILES: Final = {
    path.name: path
    for path in (
        HERE / "live.css", HERE / "live.js", COMMON / "tokens.css", COMMON / "lamp.svg",
        COMMON / "uplot" / "uPlot.iife.min.js", COMMON / "uplot" / "uPlot.min.css",
    )
}  # fmt: skip
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class LivePage:
    """Notes a point each second, and shows them.

    Args:
        status: the node's, for what it says of itself.
    """

    def __init__(
        self,
        activity: Activity,
        scheduler: "Scheduler[Any]",
        supervisor: Supervisor,
        admission: Admission,
        streams: Streams,
        publisher: Publisher,
        *,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self.points: deque[dict[str, Any]] = deque(maxlen=KEPT_S)
        self._activity, self._scheduler, self._supervisor = activity, scheduler, supervisor
        self._admission, self._streams, self._publisher, self._status = admission, streams, publisher, status
        self._before = self._totals()
        self._busy: deque[dict[str, int]] = deque([dict(activity.busy_ns)], maxlen=USE_S + 1)
        self._frames: deque[dict[EdgeStream, int]] = deque(maxlen=USE_S)  # by stream, in the last seconds
        self._viewers = 0
        self._now = ""  # the last event
        self._next = asyncio.Event()  # set, and replaced, when there is another
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def routes(self, scrape: Callable[[], bytes]) -> Sequence[BaseRoute]:
        """For the node's HTTP server; `scrape` gives `/metrics`."""

        async def page(request: Request) -> Response:
            return FileResponse(HERE / "live.html", headers=HEADERS)

        async def file(request: Request) -> Response:
            path = FILES.get(request.path_params["name"])
            return FileResponse(path, headers=HEADERS) if path else PlainTextResponse("there is no such file\n", 404)

        async def events(request: Request) -> Response:
            if self._viewers >= VIEWERS:
                return PlainTextResponse(f"{VIEWERS} pages are open already\n", 503, {"Retry-After": "10"})
            return StreamingResponse(self._events(), media_type="text/event-stream", headers=HEADERS)

        async def metrics(request: Request) -> Response:
            return Response(scrape(), media_type=None, headers={"Content-Type": CONTENT_TYPE})

        async def root(request: Request) -> Response:
            return RedirectResponse("/live")

        return [
            Route("/", root),
            Route("/live", page),
            Route("/live/events", events),
            Route("/live/{name}", file),
            Route("/metrics", metrics),
        ]

    def start(self) -> None:
        """Note points in the background."""
        self._task = asyncio.create_task(self._run(), name="live page")

    async def stop(self) -> None:
        """End every page's stream."""
        self._ended = True
        self._next.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s = max(due_s + 1.0, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())
            try:
                self.tick()
            except Exception:
                log.exception("the page lacks a point")

    def tick(self) -> None:
        """Note a point, and tell whoever looks."""
        point = self._point()
        self.points.append(point)
        if self._viewers:
            frames, words = self._words()
            self._frames.append(frames)
            self._now = _event("now", {"point": point, **words})
            self._next.set()
            self._next = asyncio.Event()
        else:
            self._frames.clear()

    async def _events(self) -> AsyncIterator[str]:
        self._viewers += 1
        try:
            yield _event("history", {"points": list(self.points), **self._words()[1]})
            while not self._ended:
                await self._next.wait()
                if not self._ended:
                    yield self._now
        finally:
            self._viewers -= 1

    def _totals(self) -> tuple[float, ...]:
        activity, traffic = self._activity, self._streams.traffic
        enhanced = sum(activity.settled[Outcome.ENHANCED, priority] for priority in Priority)
        other = activity.settled.total() - enhanced + traffic.rejected.total()
        down = self._publisher.published_bytes
        return time.monotonic(), enhanced, other, activity.batches, activity.batched_frames, traffic.bytes, down

    def _point(self) -> dict[str, Any]:
        """Rates since the last point, and how things stand."""
        before, self._before = self._before, self._totals()
        seconds, enhanced, other, batches, frames, up, down = (
            now - then for now, then in zip(self._before, before, strict=True)
        )
        seconds = seconds or 1.0
        times = sorted(self._activity.recent_ms)
        self._activity.recent_ms.clear()
        self._busy.append(dict(self._activity.busy_ns))
        span_ns = (len(self._busy) - 1) * seconds * 1e9
        return {
            "t": round(time.time()),
            "done": round(enhanced / seconds, 2),
            "other": round(other / seconds, 2),
            "p50": percentile(times, 0.50),
            "p95": percentile(times, 0.95),
            "batch": round(frames / batches, 2) if batches else None,
            "use": {
                worker.name: round(
                    min(1.0, (self._busy[-1].get(worker.name, 0) - self._busy[0].get(worker.name, 0)) / span_ns), 3
                )
                for worker in self._supervisor.workers
            },
            "queue": {word(priority): self._scheduler.waiting(priority)[0] for priority in Priority},
            "spool": self._publisher.pending,
            "edges": len(self._streams.live),
            "up": round(up / seconds),
            "down": round(down / seconds),
        }

    def _words(self) -> tuple[dict[EdgeStream, int], dict[str, Any]]:
        """Each stream's frames so far, and what is not drawn over time."""
        status, now_ns = self._status(), time.monotonic_ns()
        rows: list[dict[str, Any]] = []
        before, now = self._frames[0] if self._frames else {}, dict[EdgeStream, int]()
        for name, stream in list(self._streams.live.items()):
            now[stream] = stream.frames
            rate = (stream.frames - before.get(stream, stream.frames)) / max(1, len(self._frames))
            rows.append({"edge": name, "frames": stream.frames, "rate": round(rate, 1), "out": stream.account.frames,
                         "window": stream.account.window_frames})  # fmt: skip
        rows.sort(key=lambda row: (-row["rate"], -row["frames"], row["edge"]))
        queue = []
        for priority in Priority:
            frames, arrived_ns = self._scheduler.waiting(priority)
            queue.append({
                "priority": word(priority), "frames": frames,
                "oldest_ms": round((now_ns - arrived_ns) / 1e6) if frames else 0,
                "wait_ms": round(self._admission.wait_ms(priority)),
            })  # fmt: skip
        return now, {
            "status": status,
            "queue": queue,
            "edges": rows[:EDGES],
            "rejected": {REASONS[number]: count for number, count in self._streams.traffic.rejected.items()},
            "spool": {"bytes": self._publisher.pending_bytes, "oldest_s": round(self._publisher.oldest_s(), 1)},
        }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Of sorted values, the nearest rank; None of none.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5), percentile([1.0, 2.0], 0.95), percentile([], 0.5)
    (2.0, 2.0, None)
    """
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1) if ordered else None


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
