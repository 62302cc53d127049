"""Our cloud node, with the command line of the peers here."""

import os
import sys

import options

given = options.parse(__doc__)
node = [
    "-m",
    "cloud_node",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--engines",
    str(given.workers),
    "--port",
    str(given.port),
]
os.execv(sys.executable, [sys.executable, *node, "--nats", given.nats, "--preset", given.preset, *given.extra])
