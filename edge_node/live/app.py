"""What the live page answers: its files, the stream, the search."""

import asyncio
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from common.errors import LamplightError
from edge_node.live.viewer import Viewer

if TYPE_CHECKING:
    from edge_node.live.page import LivePage

STATIC: Final = Path(__file__).parent / "static"
COMMON: Final = Path(__file__).parents[2] / "common" / "web"  # as on the cloud node's page
KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES: Final = {
    file.name: file
    for file in (*sorted(STATIC.iterdir()), COMMON / "tokens.css", COMMON / "lamp.svg")
    if file.suffix in KINDS
}
LONGEST_QUERY: Final = 200  # characters
MOST_FOUND: Final = 50
MOST_VIEWERS: Final = 16


class Search(Protocol):
    """Finds kept readings; called in threads. See `Kept`."""

    def search(self, text: str, *, fuzzy: bool, within_s: float, limit: int) -> Sequence[Mapping[str, Any]] | None: ...

    def crop(self, id: str) -> bytes | None: ...


def application(page: "LivePage", search: Search | None) -> ASGIApp:
    """The application, which trusts whoever reaches it: see `Guard`."""

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers=_REVALIDATE)

    def served(file: Path) -> Route:
        async def send(request: Request) -> Response:
            return FileResponse(file, media_type=KINDS[file.suffix], headers=_REVALIDATE)

        return Route(f"/{file.name}", send)

    async def found(request: Request) -> Response:
        asked = request.query_params
        text, fuzzy, within = asked.get("text", "").strip(), asked.get("fuzzy") == "1", asked.get("within", "0")
        if not text:
            return JSONResponse({"found": []})
        if len(text) > LONGEST_QUERY or not re.fullmatch(r"\d{1,9}", within):
            return JSONResponse({"error": f"a text of at most {LONGEST_QUERY} characters, within=SECONDS"}, 400)
        rows = None
        if search is not None:
            find = functools.partial(search.search, text, fuzzy=fuzzy, within_s=float(within), limit=MOST_FOUND)
            try:
                rows = await asyncio.to_thread(find)
            except LamplightError as error:
                return JSONResponse({"error": str(error)}, 500)
        if rows is None:
            return JSONResponse({"error": "no readings are kept here to search in"}, 404)
        return JSONResponse({"found": list(rows)})

    async def crop(request: Request) -> Response:
        jpeg = await asyncio.to_thread(search.crop, request.query_params.get("id", "")) if search else None
        return Response(jpeg, media_type="image/jpeg") if jpeg else Response(status_code=404)

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
            *map(served, FILES.values()),
            Route("/search", found),
            Route("/crop", crop),
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
