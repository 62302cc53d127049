"""LitServe as its documentation advises for throughput.

Batching on the server, a worker process per core, the ZeroMQ queue (`fast_queue`), bodies as raw bytes instead of
JSON. A worker publishes results itself, so that they do not go back through the queue.
"""

import sys
import threading
import time
import urllib.request
from typing import Annotated

import litserve as ls
import options
from fastapi import Body, Response
from job import Job

Bytes = Annotated[bytes, Body(media_type="application/octet-stream")]
HOST = "127.0.0.1"


class Single(ls.LitAPI):
    """One frame at a time: LitServe's loop without batches."""

    given = options.parse(__doc__)

    def setup(self, device: str) -> None:
        self.job = Job(self.given.preset, self.given.nats)

    def decode_request(self, request: Bytes) -> bytes:
        return request

    def predict(self, body: bytes) -> None:
        self.job.work([body])

    def encode_response(self, output: None) -> Response:
        return Response(status_code=204)


class Batched(Single):
    def batch(self, bodies: list[bytes]) -> list[bytes]:
        return bodies

    def predict(self, bodies: list[bytes]) -> list[None]:
        self.job.work(bodies)
        return [None] * len(bodies)

    def unbatch(self, outputs: list[None]) -> list[None]:
        return outputs


def announce(port: int) -> None:
    """Say so once the workers are ready."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1):
                return print(f"ready on {HOST}:{port}", file=sys.stderr, flush=True)
        except OSError:
            time.sleep(0.1)


def main() -> None:
    given = Single.given
    if given.batch == 1:
        api = Single()
    else:
        api = Batched(max_batch_size=given.batch, batch_timeout=given.wait_ms / 1000)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=given.workers, fast_queue=True, timeout=False)
    threading.Thread(target=announce, args=(given.port,), daemon=True).start()
    server.run(host=HOST, port=given.port, num_api_servers=1, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
