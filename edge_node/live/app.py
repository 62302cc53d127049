"""What the live page answers: its files, the stream, the search."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_node.live.viewer import Viewer

if TYPE_CHECKING:
    from edge_node.live.page import LivePage

log = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent / "static"
FILES: Final = {
    file.name: kind
    for file in sorted(STATIC.iterdir())
    if (kind := {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}.get(file.suffix))
}
LONGEST_QUERY: Final = 200  # characters
MOST_FOUND: Final = 50
MOST_VIEWERS: Final = 16

Search = Callable[[str, bool, int], Sequence[Mapping[str, Any]]]
"""Takes a text, whether reading errors are forgiven, and how many are wanted at most; in a thread of its own."""


def application(page: "LivePage", search: Search | None) -> ASGIApp:
    """The application, which trusts whoever reaches it: see `Guard`."""

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers=_REVALIDATE)

    def file(name: str, kind: str) -> Route:
        async def send(request: Request) -> Response:
            return FileResponse(STATIC / name, media_type=kind, headers=_REVALIDATE)

        return Route(f"/{name}", send)

    async def found(request: Request) -> Response:
        text = request.query_params.get("text", "").strip()[:LONGEST_QUERY]
        if search is None:
            return JSONResponse({"error": "no readings are kept here to search in"}, 404)
        if not text:
            return JSONResponse({"found": []})
        try:
            rows = await asyncio.to_thread(search, text, request.query_params.get("fuzzy") == "1", MOST_FOUND)
        except Exception as error:
            log.exception("the search on the live page failed")
            return JSONResponse({"error": f"the search failed: {error}"}, 500)
        return JSONResponse({"found": list(rows)})

    async def home(request: Request) -> Response:  # who has the token already
        return RedirectResponse("/", 303)

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        if len(page.viewers) >= MOST_VIEWERS:
            await socket.close(1013, f"{MOST_VIEWERS} browsers look already")
            return
        viewer = Viewer(socket, page.cameras, page.cameras[0])
        sending = asyncio.create_task(viewer.send())
        try:
            page.enter(viewer)
            while True:
                if not page.heard(viewer, await _said(socket)):
                    await socket.close(1003)
                    return
        except WebSocketDisconnect:
            return
        finally:
            page.leave(viewer)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    return Starlette(
        routes=[
            Route("/", index),
            *(file(name, kind) for name, kind in FILES.items()),
            Route("/search", found),
            Route("/token", home, methods=["GET", "POST"]),
            WebSocketRoute("/stream", stream),
        ]
    )


_REVALIDATE: Final = {"cache-control": "no-cache"}


async def _said(socket: WebSocket) -> Any:
    try:
        return json.loads(await socket.receive_text())
    except (ValueError, KeyError, RecursionError):
        return None
