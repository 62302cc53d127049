"""An edge node that runs inside a test."""

import asyncio
from collections.abc import Callable

from edge_node.node import EdgeNode


async def run_node(node: EdgeNode, stop_when: Callable[[], bool] | None = None) -> EdgeNode:
    """Run a node to its end, or until `stop_when` holds."""
    stop = asyncio.Event()
    running = asyncio.create_task(node.run(stop))
    async with asyncio.timeout(120):
        while stop_when is not None and not stop_when() and not running.done():
            await asyncio.sleep(0.01)
        if stop_when is not None:
            stop.set()
        await running
    return node
