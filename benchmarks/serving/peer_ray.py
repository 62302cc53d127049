"""Ray Serve as its documentation advises for throughput.

`@serve.batch`, a replica per core, `max_ongoing_requests` above what is sent at once, raw Starlette requests instead
of FastAPI, the modes RAY_SERVE_THROUGHPUT_OPTIMIZED and RAY_SERVE_ENABLE_HA_PROXY (half the CPU time a frame of Ray's
own proxy), no access log. The network runs in a thread, so that the replica's event loop goes on meanwhile.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile

# Ray reads them when it is imported. The last one: nothing is reported to anybody.
os.environ |= {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import options  # noqa: E402
import ray  # noqa: E402
from job import Job  # noqa: E402
from ray import serve  # noqa: E402
from ray.serve.config import HTTPOptions  # noqa: E402
from ray.serve.schema import LoggingConfig  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response  # noqa: E402

HOST = "127.0.0.1"
MAX_ONGOING = 512


def deployment(batch: int, wait_ms: float) -> type:
    """The class to deploy; Ray's decorator takes its figures when the class is made."""

    class Enhancer:
        def __init__(self, preset: str, nats: str) -> None:
            self.job = Job(preset, nats)

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=wait_ms / 1000)
        async def enhance(self, bodies: list[bytes]) -> list[None]:
            await asyncio.to_thread(self.job.work, bodies)
            return [None] * len(bodies)

        async def __call__(self, request: Request) -> Response:
            await self.enhance(await request.body())
            return Response(status_code=204)

    return Enhancer


def main() -> None:
    given = options.parse(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        num_cpus=given.workers + 1,
        logging_level=logging.WARNING,
        _node_ip_address=HOST,
        _temp_dir=tempfile.gettempdir(),
    )
    try:
        serve.start(
            http_options=HTTPOptions(host=HOST, port=given.port),
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
        enhancer = serve.deployment(
            deployment(given.batch, given.wait_ms),
            name="Enhancer",
            num_replicas=given.workers,
            max_ongoing_requests=MAX_ONGOING,
            ray_actor_options={"num_cpus": 1},
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
        serve.run(enhancer.bind(given.preset, given.nats))
        print(f"ready on {HOST}:{given.port}", file=sys.stderr, flush=True)
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
