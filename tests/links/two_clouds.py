"""Two real cloud nodes without a network, on hosts of their own, that publish to one NATS server on a third."""

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from laboratory import Laboratory
from processes import Cloud

from common.nats_server import find_server

NATS_PORT, PORT = 4222, 50051


@contextmanager
def two_clouds(laboratory: Laboratory, folder: Path) -> Iterator[dict[str, Cloud]]:
    """By address; NATS keeps its store in the folder."""
    broker = laboratory.host("broker")
    nats = ("-js", "-a", "0.0.0.0", "-p", str(NATS_PORT), "-sd", str(folder / "store"))
    broker.start(str(find_server()), *nats, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    arguments = (
        "--preset",
        "none",
        "--host",
        "0.0.0.0",
        "--insecure",
        "--nats",
        f"nats://{broker.address}:{NATS_PORT}",
    )
    hosts = [laboratory.host(name) for name in ("a", "b")]
    with ThreadPoolExecutor() as pool:  # both at once: each takes seconds to import torch
        nodes = pool.map(lambda host: Cloud(*arguments, port=PORT, prefix=host.prefix), hosts)
        started = dict(zip((f"{host.address}:{PORT}" for host in hosts), nodes, strict=True))
        try:
            yield started  # here: a process of a host ends with the thread that started it
        finally:
            for cloud in started.values():
                cloud.end(signal.SIGKILL)
