"""Safe by default: other machines reach this node with TLS and authentication alone, unless told otherwise."""

import logging
from urllib.parse import urlsplit

from cloud_node.settings import CloudSettings
from common.errors import SettingsError
from common.loopback import is_loopback
from common.nats_connection import masked, server_list

log = logging.getLogger(__name__)

HOW = (
    "Make an authority with `python -m cloud_node enroll --init --name HOST`, start with --identity authority/node, "
    "and let each edge in with `python -m cloud_node enroll EDGE` (docs/security.md)"
)


def check_exposure(settings: CloudSettings) -> None:
    """Warns of what --insecure risks, and of results that travel in the clear.

    Raises:
        SettingsError: something would listen beyond loopback without TLS and authentication.
    """
    if settings.security.identity is not None:
        return
    hosts = {"--host": settings.host, "--http": settings.http_address[0] if settings.http_address else ""}
    exposed = [f"{flag} {host}" for flag, host in hosts.items() if host and not is_loopback(host)]
    if exposed and not settings.security.insecure:
        raise SettingsError(
            f"{' and '.join(exposed)}: other machines would reach this node without TLS and authentication. {HOW}; "
            "or take the risk with --insecure, on a network where you trust every machine"
        )
    if exposed:
        log.warning(
            "INSECURE (%s): whoever reaches this address can send frames under any edge's name, fetch and remove other "
            "edges' results, and whoever is in between can see frames and results. %s",
            ", ".join(exposed),
            HOW,
        )
    far = [url for url in (server_list(settings.nats) if settings.nats else []) if not is_loopback(_host(url))]
    if far and not all(url.startswith("tls://") for url in far):
        log.warning("results travel in the clear to NATS at %s: see docs/security.md", ", ".join(map(masked, far)))


def _host(url: str) -> str:
    return urlsplit(url if "://" in url else f"nats://{url}").hostname or ""
