"""Triton through pytriton as their documentation advises for throughput.

The dynamic batcher without delay, gRPC, the frame as a BYTES tensor, an instance per core, priorities in the queue
(Triton's levels are numbered as ours: 1 goes first).
"""

import signal
import socket
import sys
import tempfile
import threading

import numpy as np
import options
import tritonclient.grpc as triton
from job import Job
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

HOST = "127.0.0.1"
MODEL = "enhancer"
PRIORITIES = 3
PROBE_TIMEOUT_S = 20.0


def worker(preset: str, nats: str):
    """What pytriton calls with the requests of one batch."""
    job = Job(preset, nats)

    def infer(requests):
        bodies = [request["frame"][0, 0] for request in requests]
        if bodies := [body for body in bodies if body]:
            job.work(bodies)
        return [{"done": np.ones((1, 1), np.uint8)} for _ in requests]

    return infer


def probe(address: str, count: int) -> None:
    """Empty frames through all of it; raises if one does not come back: pytriton has said that it runs and did not."""
    with triton.InferenceServerClient(address) as client:
        for _ in range(count):
            tensor = triton.InferInput("frame", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[b""]], dtype=object))
            client.infer(MODEL, [tensor], client_timeout=PROBE_TIMEOUT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> None:
    given = options.parse(__doc__)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    config = TritonConfig(
        grpc_address=HOST, grpc_port=given.port, http_address=HOST, http_port=free_port(), allow_metrics=False
    )  # fmt: skip
    batcher = DynamicBatcher(
        max_queue_delay_microseconds=int(given.wait_ms * 1000), priority_levels=PRIORITIES, default_priority_level=2
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, Triton(config=config, workspace=f"{folder}/pytriton") as server:
        server.bind(
            model_name=MODEL,
            infer_func=[worker(given.preset, given.nats) for _ in range(given.workers)],
            inputs=[Tensor(name="frame", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="done", dtype=np.uint8, shape=(1,))],
            config=ModelConfig(max_batch_size=given.batch, batcher=batcher),
        )
        server.run()
        probe(f"{HOST}:{given.port}", 4 * given.workers)
        print(f"ready on {HOST}:{given.port}", file=sys.stderr, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
