"""Streams that end of old age: the edge comes again, and whatever spreads connections may send it to another node."""

import asyncio
import contextlib
import random

from cloud_node.streams import EdgeStream
from lamplight.v1 import enhancement_pb2 as pb

SPREAD = 0.1  # of the age, either way: edges that came together do not leave together
POLL_S = 0.02


async def retire(stream: EdgeStream, age_s: float, grace_s: float) -> None:
    """After `age_s` seconds take no new frames, wait until those accepted are published, `grace_s` at most, and end."""
    await asyncio.sleep(age_s * random.uniform(1 - SPREAD, 1 + SPREAD))
    stream.send(go_away=pb.GoAway(reason="edges are spread anew", grace_ms=int(grace_s * 1000)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace_s):
            while stream.account.frames or stream.session.holding:
                await asyncio.sleep(POLL_S)
    stream.end()
