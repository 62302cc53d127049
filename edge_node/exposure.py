"""Safe by default: frames leave this machine, and the live page shows them to others, by TLS alone, unless told so."""

import logging
import socket
from pathlib import Path

from common.channel import with_port
from common.errors import SettingsError
from common.loopback import is_loopback
from edge_node.route import LocalMode
from edge_node.settings import EdgeSettings

log = logging.getLogger(__name__)

HOW = (
    "Have this edge enrolled, `python -m cloud_node enroll EDGE` where the cloud node's authority is, and start with "
    "--identity EDGE.bundle (docs/security.md)"
)
TRUST = "or take the risk with --insecure, on a network where you trust every machine"
RISK = "whoever is in between, or answers in the cloud node's place, can see frames and results and make up others"
LIVE_HOW = "Leave HOST out and come by SSH, or put a proxy with TLS before it (docs/live.md)"
LIVE_RISK = "whoever is in between can see the page and its token"


def beyond_loopback(addresses: str) -> list[str]:
    """Which of these HOST[:PORT], with commas between them, may be another machine; names are looked up."""
    found = [with_port(address.strip()) for address in addresses.split(",") if address.strip()]
    return [address for address in found if not _is_here(address.rpartition(":")[0].strip("[]"))]


def check_cloud(addresses: str, identity: Path | None, insecure: bool) -> None:
    """Warns of what --insecure risks.

    Raises:
        SettingsError: frames would go to another machine in the clear, to whoever answers there.
    """
    if identity is not None or not (far := ", ".join(beyond_loopback(addresses))):
        return
    if not insecure:
        raise SettingsError(f"cloud node {far}: frames would go there in the clear, and {RISK}. {HOW}; {TRUST}")
    log.warning("INSECURE (cloud node %s): %s. %s", far, RISK, HOW)


def check_exposure(given: EdgeSettings) -> None:
    """All that an edge node's settings open. Raises SettingsError."""
    if given.choosing.local is not LocalMode.ONLY:
        check_cloud(given.cloud, given.identity, given.insecure)
    if given.page.live and not is_loopback(given.page.address[0]):
        if not given.insecure:
            raise SettingsError(f"--live {given.page.live}: without TLS {LIVE_RISK}. {LIVE_HOW}; {TRUST}")
        log.warning("INSECURE (--live %s): %s. %s", given.page.live, LIVE_RISK, LIVE_HOW)


def _is_here(host: str) -> bool:
    if is_loopback(host):
        return True
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(map(is_loopback, found))
