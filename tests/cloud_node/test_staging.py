"""Frames unpacked ahead of their turn, within a bound."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from devices import HEIGHT, WIDTH, make_job

from cloud_node.jobs import Job
from cloud_node.staging import Staging
from common.errors import CorruptImage
from common.pixels import RawImage

BYTES = WIDTH * HEIGHT * 3


@pytest.fixture
def staging() -> Iterator[Staging]:
    made = Staging(limit_bytes=2 * BYTES)
    yield made
    made.close()


def greys(pixels: list[RawImage | Exception]) -> list[int]:
    return [int(np.unique(image.data).item()) for image in pixels if isinstance(image, RawImage)]


@pytest.mark.parametrize("ahead", [[], [1], [0, 1, 2]])
async def test_pixels_come_in_order_whatever_was_guessed(staging: Staging, ahead: list[int]) -> None:
    jobs = [make_job(sequence) for sequence in range(3)]
    staging.ahead(jobs[sequence] for sequence in ahead)
    assert greys(staging.take(jobs)()) == [0, 1, 2]
    assert staging.held_bytes == 0


async def test_a_lone_frame_is_unpacked_by_the_thread_that_asks(staging: Staging) -> None:
    job = make_job(3)
    staging.close()  # no other thread could
    assert greys(staging.take([job])()) == [3]


async def test_the_bound_holds_and_wrong_guesses_go_first(staging: Staging) -> None:
    jobs = [make_job(sequence) for sequence in range(4)]
    staging.ahead(jobs[:3])
    assert [job in staging for job in jobs] == [True, True, False, False]
    staging.ahead([jobs[3], jobs[1]])  # a more urgent one came
    assert [job in staging for job in jobs] == [False, True, False, True]
    assert staging.held_bytes == 2 * BYTES
    staging.clear()
    assert staging.held_bytes == 0 and not any(job in staging for job in jobs)


async def test_a_frame_larger_than_the_bound_is_unpacked_in_its_turn(staging: Staging) -> None:
    large: Job = make_job(9, size=(WIDTH * 3, HEIGHT))
    staging.ahead([large])
    assert large not in staging
    assert greys(staging.take([large])()) == [9]


async def test_a_broken_frame_gives_its_error_in_its_place(staging: Staging) -> None:
    whole, broken = make_job(1), make_job(2, payload=make_job(2).frame.image.payload[:-3])
    staging.ahead([broken])
    while staging.held_bytes and not broken.image_broken:
        await asyncio.sleep(0.005)
    first, second = staging.take([whole, broken])()
    assert greys([first]) == [1] and isinstance(second, CorruptImage)
