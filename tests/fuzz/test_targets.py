"""Every parser, fed with sound inputs that were bent, and with junk: a short turn of what run.py does for long."""

import random
import tracemalloc

import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, Target, framed, pieces

MOST_BYTES = 24 * 2**20  # traced memory of one input; the largest picture here takes 0.2 MiB
BENT = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 6))
QUICK = settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))


def bend(data: bytes, seed: int, times: int) -> bytes:
    """Flip, cut, repeat, insert: what a bad link or a bad mind does to a sound input."""
    dice, bent = random.Random(seed), bytearray(data)
    for _ in range(times):
        at = dice.randrange(len(bent) + 1)
        match dice.randrange(6):
            case 0 if at < len(bent):
                bent[at] ^= 1 << dice.randrange(8)
            case 1:
                del bent[at : at + dice.randrange(1, 40)]
            case 2:
                bent[at:at] = bent[at : at + dice.randrange(1, 40)]
            case 3:
                bent[at:at] = dice.randbytes(dice.randrange(1, 12))
            case 4:
                del bent[at:]
            case _:
                bent[at:at] = dice.choice([b"\xff" * 9, b"\x00" * 8, b"\x80" * 5, b"9" * 30, b"[" * 50, b"\xff\xda"])
    return bytes(bent)


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_that_were_bent(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @QUICK
    @given(st.sampled_from(seeds), BENT)
    def check(seed: bytes, how: tuple[int, int]) -> None:
        fed(target, bend(seed, *how))

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_junk(name: str) -> None:
    target = TARGETS[name]

    @QUICK
    @given(st.binary(max_size=300), st.booleans())
    def check(junk: bytes, as_pieces: bool) -> None:
        fed(target, framed(junk, junk[::2], junk[::3]) if as_pieces else junk)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_sound(name: str) -> None:
    for seed in TARGETS[name].seeds():
        fed(TARGETS[name], seed)


def test_pieces_come_back() -> None:
    assert pieces(framed(b"a", b"", b"long" * 99)) == [b"a", b"", b"long" * 99]


def fed(target: Target, data: bytes) -> None:
    tracemalloc.start()
    try:
        target.feed(data)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
