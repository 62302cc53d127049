"""What is this machine alone: one answer for what listens, what is asked for, and where things are sent."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = "127.0.0.1"


def host_and_port(text: str, flag: str) -> tuple[str, int]:
    """Where to listen: PORT or :PORT, on loopback, HOST:PORT, or [IPv6]:PORT. Raises ValueError that names the flag.

    >>> host_and_port("8080", "--http"), host_and_port("[::1]:80", "--http")
    (('127.0.0.1', 8080), ('::1', 80))
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    known = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not known or (":" in host and host != f"[{bare}]"):
        raise ValueError(f"{flag} {text}: a port, as 8080, or a host and a port, as 192.168.1.20:8080 or [::1]:8080")
    return bare or LOOPBACK, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there; no name but localhost is trusted to be so.

    >>> [is_loopback(host) for host in ("127.0.0.1", "[::1]", "LocalHost", "0.0.0.0", "localhost.evil.example", "")]
    [True, True, True, False, False, False]
    """
    host = host.strip("[]")
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_loopback(asked: str) -> bool:
    """Whether an HTTP request's Host, HOST[:PORT], is this machine. A page elsewhere that gets its own name to mean
    this machine (DNS rebinding) sends that name.

    >>> [names_loopback(asked) for asked in ("localhost:80", "[::1]:80", "127.0.0.1", "evil.example:80", "[", "")]
    [True, True, True, False, False, False]
    """
    try:
        return is_loopback(urlsplit(f"//{asked}").hostname or "")
    except ValueError:  # as of "["
        return False
