"""One answer to what is this machine alone."""

import doctest

import pytest

from common import loopback
from common.loopback import is_loopback, names_loopback


def test_the_examples_hold() -> None:
    assert doctest.testmod(loopback).attempted == 2 and not doctest.testmod(loopback).failed


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "::", "[::]", "127.0.0.1.nip.io", "localhost.", "2130706433", "[", "lo calhost"]
)
def test_what_may_be_another_machine_is_not_taken_for_this_one(host: str) -> None:
    assert not is_loopback(host) and not names_loopback(host) and not names_loopback(f"{host}:80")
