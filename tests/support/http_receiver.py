"""A real HTTP server that keeps what is posted to it and answers as the test wants."""

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

LIMIT_S = 60


@dataclass(frozen=True)
class Post:
    """A request as it came."""

    path: str
    headers: Message
    body: bytes


Answer = Callable[["BaseHTTPRequestHandler"], Any]


def status(code: int, **headers: str) -> Answer:
    """An answer without a body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class Receiver:
    """`answers` are used in turn, the last one for all that come after."""

    def __init__(self, *answers: Answer, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.answers = list(answers) or [status(204)]
        self.over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append(Post(self.path, self.headers, body))
                answer = receiver.answers[0] if len(receiver.answers) == 1 else receiver.answers.pop(0)
                try:
                    answer(self)
                except OSError:
                    self.close_connection = True  # the other side had enough

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """Of a TLS handshake that the other side broke off."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}/hook/secret-token"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "this never came"
        time.sleep(0.005)
