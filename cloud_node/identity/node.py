"""What a cloud node knows of its authority: the folder `node/`, read again when its files are replaced."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cloud_node.identity import claims
from cloud_node.identity.nats_conf import secured
from cloud_node.watch import FileWatch
from common.channel import Certificates
from common.errors import SettingsError
from common.identity import read_private, trusting
from common.loopback import is_loopback
from common.nats_connection import Login

log = logging.getLogger(__name__)

FILES = ("ca.crt", "server.crt", "server.key", "nats.json", "logins.json", "revoked.json", "http.token")
MOST_BYTES = 64 * 1024 * 1024
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """All of the folder, as it was at one time."""

    certificates: Certificates
    operator: str  # JWT
    system_account: str  # public key
    accounts: dict[str, str]  # public key -> JWT
    logins: dict[str, str]  # "results", "system" -> .creds
    revoked: frozenset[str]  # serials
    http_token: str
    outdated: bool  # an edge can end an older nats-server
    host: str  # the first that is not loopback in the server's certificate; "" = none
    addresses: frozenset[object]  # of ipaddress, those in the server's certificate


class NodeIdentity:
    """Raises SettingsError when the folder is not one, or not private."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "nats.json").is_file():
            hint = f": name {folder / 'node'}" if (folder / "node").is_dir() else ""
            raise SettingsError(
                f"--identity {folder}: not the folder node/ that `python -m cloud_node enroll --init` makes{hint}"
            )
        self._watch = FileWatch(folder / name for name in FILES)
        self.now = _read(folder)
        if self.now.outdated:
            log.warning(
                "--identity %s is of an older version, with which an edge can end a nats-server before 2.10.27: run "
                "`python -m cloud_node enroll --rotate` where the authority is, and copy node/ here again",
                folder,
            )
        self.on_change: list[Callable[[], None]] = []  # called, in the event loop, after `now` changed

    async def run(self) -> None:
        """Look for replaced files until cancelled. What cannot be read is tried until it can: it may revoke an edge."""
        stale, said = False, ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            stale = bool(await asyncio.to_thread(self._watch.changed)) or stale
            if not stale:
                continue
            try:
                self.now = await asyncio.to_thread(_read, self.folder)
            except SettingsError as error:  # half of it is written, perhaps
                if str(error) != said:
                    log.error("the identity stays as it was, and is tried again: %s", error)
                said = str(error)
                continue
            stale, said = False, ""
            log.warning("identity %s was read again: %d certificates are revoked", self.folder, len(self.now.revoked))
            for tell in self.on_change:
                tell()

    def certificates(self) -> Certificates:
        """For gRPC's handshakes; from any thread."""
        return self.now.certificates

    def login(self) -> Login:
        """To NATS, for results."""
        return Login(self.now.logins["results"], trusting(self.now.certificates[2].decode()))

    def system_login(self) -> Login:
        """To NATS, to hand claims in."""
        return Login(self.now.logins["system"], trusting(self.now.certificates[2].decode()))

    def nats_settings(self, folder: Path) -> dict[str, Any]:
        """Settings of a nats-server that keeps what it is told in `folder`."""
        now = self.now
        nats = {"operator": now.operator, "system_account": now.system_account, "accounts": now.accounts}
        return secured(nats, self.folder.absolute(), folder)  # links stay: Kubernetes changes what is behind them


def _read(folder: Path) -> Secrets:
    def text(name: str) -> str:
        return read_private(folder / name, MOST_BYTES)

    try:
        nats, logins, revoked = (json.loads(text(name)) for name in ("nats.json", "logins.json", "revoked.json"))
        chain, key = text("server.crt").encode(), text("server.key").encode()
        certificate = x509.load_pem_x509_certificate(chain)
        if serialization.load_pem_private_key(key, None).public_key() != certificate.public_key():
            raise SettingsError(f"{folder}: server.key is not that of server.crt")
        trusting(text("ca.crt"))
        return Secrets(
            certificates=(chain, key, text("ca.crt").encode()),
            operator=str(nats["operator"]),
            system_account=str(nats["system_account"]),
            accounts={str(name): str(token) for name, token in nats["accounts"].items()},
            logins={name: str(logins[name]) for name in ("results", "system")},
            revoked=frozenset(map(str, revoked)),
            http_token=text("http.token").strip(),
            outdated=any(map(claims.maps_imports, nats["accounts"].values())),
            host=_host(certificate),
            addresses=_addresses(certificate),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(f"--identity {folder} is broken ({type(error).__name__}): copy it anew") from None


def _addresses(certificate: x509.Certificate) -> frozenset[object]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return frozenset(names.get_values_for_type(x509.IPAddress))


def _host(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for name in names:
        host = str(name.value)
        if not is_loopback(host):
            return f"[{host}]" if ":" in host else host
    return ""
