"""Pull consumers of JetStream: made, and made anew where the server lost track."""

import asyncio
import logging

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.3


async def ensure_consumer(js: JetStreamContext, stream: str, config: ConsumerConfig) -> ConsumerInfo:
    """Make a durable consumer as it should be; one that is there and cannot be changed to that is replaced.

    Raises what nats-py raises.
    """
    assert config.durable_name is not None
    try:
        return await js.add_consumer(stream, config)
    except (nats.js.errors.BadRequestError, nats.js.errors.ServerError) as error:
        try:
            await js.delete_consumer(stream, config.durable_name)
        except nats.js.errors.NotFoundError:
            raise error from None
    return await js.add_consumer(stream, config)


async def replace_lost(js: JetStreamContext, stream: str, made: list[tuple[ConsumerConfig, ConsumerInfo]]) -> int:
    """Replace consumers that stand behind the end of their stream; returns how many.

    In a cluster that lost its quorum a memory stream begins anew while its consumers remember how far they were: they
    would wait for that number, and what comes before it would never be delivered.
    """
    ahead = [config for config, info in made if _place(info)]
    if not ahead or max(_place(info) for _, info in made) <= await _last(js, stream):
        return 0
    await asyncio.sleep(LOOK_AGAIN_S)  # what one server delivered another may not have counted yet
    replaced = 0
    for config in ahead:
        assert config.durable_name is not None
        place = _place(await js.consumer_info(stream, config.durable_name))
        if place > (last := await _last(js, stream)):
            log.warning("consumer %s waits for message %d of %s, which has %d: made anew", config.durable_name, place,
                        stream, last)  # fmt: skip
            await js.delete_consumer(stream, config.durable_name)
            await js.add_consumer(stream, config)
            replaced += 1
    return replaced


def _place(info: ConsumerInfo) -> int:
    """The last message that it delivered."""
    return info.delivered.stream_seq if info.delivered is not None else 0


async def _last(js: JetStreamContext, stream: str) -> int:
    return int((await js.stream_info(stream)).state.last_seq)
