"""Addresses of other machines: checked at the start, and shown without what is secret in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

WEB: Final = {"http": 80, "https": 443}
MQTT: Final = {"mqtt": 1883, "mqtts": 8883}
NATS: Final = {"nats": 4222, "tls": 4222}


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address; its `repr` and `shown` have no secrets, which may be in a webhook's path too."""

    scheme: str
    host: str
    port: int
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    path: str = field(repr=False)  # without slashes at its ends

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(url: str, flag: str, schemes: Mapping[str, int]) -> Address:
    """Split an address.

    Args:
        schemes: those that are known, with the ports that they mean.

    Raises:
        ValueError: that begins with `flag` and says what is wrong, without the address, which may hold a secret.

    >>> parse_address("mqtts://me:secret@hub/home", "--mqtt", MQTT).shown
    'mqtts://hub:8883'
    """
    known = " or ".join(f"{scheme}://host" for scheme in schemes)
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{flag}: {error}: as {known}") from None
    if parts.scheme not in schemes or not host or any(character.isspace() for character in host):
        raise ValueError(f"{flag}: as {known}, with :port, name:password@ or a path where needed")
    user = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password) if parts.password is not None else None
    return Address(parts.scheme, host, port or schemes[parts.scheme], user, password, unquote(parts.path).strip("/"))


def check_nats(servers: str, flag: str) -> None:
    """Check one or several NATS servers, with commas. Raises ValueError as `parse_address`."""
    for url in servers.split(","):
        parse_address(url if "://" in url else f"nats://{url.strip()}", flag, NATS)
