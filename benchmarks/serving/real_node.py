"""A cloud node as a user starts it, and a dark picture to send to it."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "proto"), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]

from node_memory import PARTS, device_pids, memory_of  # noqa: E402
from processes import Cloud, dark_sign  # noqa: E402

__all__ = ["PARTS", "RESULTS", "Cloud", "device_pids", "memory_of", "node_and_source"]

RESULTS = ROOT / "benchmarks" / "results" / "serving"


@contextmanager
def node_and_source(preset: str) -> Iterator[tuple[Cloud, str]]:
    """A node with one thread for the network, and a folder for `--source`; both are gone at the end."""
    node = Cloud("--preset", preset)
    try:
        with tempfile.TemporaryDirectory() as folder:
            dark_sign("EXIT 12").save(Path(folder) / "dark.png")
            yield node, folder
    finally:
        node.end()
