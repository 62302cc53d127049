"""One answer to what is this machine alone."""

import doctest

import pytest

from common import loopback
from common.loopback import host_and_port, is_loopback, names_loopback


def test_the_examples_hold() -> None:
    assert doctest.testmod(loopback).attempted == 3 and not doctest.testmod(loopback).failed


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "::", "[::]", "127.0.0.1.nip.io", "localhost.", "2130706433", "[", "lo calhost"]
)
def test_what_may_be_another_machine_is_not_taken_for_this_one(host: str) -> None:
    assert not is_loopback(host) and not names_loopback(host) and not names_loopback(f"{host}:80")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("box:0", ("box", 0)),
        ("[::]:80", ("::", 80)),
    ],
)
def test_where_to_listen(text: str, where: tuple[str, int]) -> None:
    assert host_and_port(text, "--http") == where


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", "70000", "9" * 5000, "-1", "8o", "\u0668\u0660", "::1", "::1:80", "[::1:80"]
)
def test_what_is_no_place_to_listen_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--live .*: a port, as 8080, or a host and a port"):
        host_and_port(text, "--live")
