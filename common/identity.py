"""An enrolled edge's bundle: one private file that says who it is, whom it trusts, and where to go.

Read strictly: bounded in size, only by its owner readable, every key known and of its type. A file that is replaced
counts from the next connection on; one that cannot be read leaves the one before in force, and says so.
"""

import functools
import json
import logging
import os
import re
import ssl
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import SettingsError
from common.nats_connection import Login
from common.subjects import check_edge

log = logging.getLogger(__name__)

KIND, VERSION = "lamplight edge bundle", 1
MAX_BYTES = 256 * 1024
MAX_EDGES, MAX_ADDRESSES, MAX_ADDRESS = 64, 64, 300
AGAIN_S = 1.0  # until a file that could not be read is tried again
EDGE_API = "lamplight.api"  # where the account of edges has its part of JetStream's $JS.API
EDGE_MAX_PAYLOAD = 1024 * 1024  # bytes of a message that an enrolled edge may publish
CERTIFICATES = re.compile(r"(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n)+")
PRIVATE_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END PRIVATE KEY-----\n")
CREDENTIALS = re.compile(
    r"-----BEGIN NATS USER JWT-----\n[\w.-]+\n------END NATS USER JWT------\n\n"
    r"-----BEGIN USER NKEY SEED-----\n[A-Z2-7]+\n------END USER NKEY SEED------\n"
)
ADDRESS = re.compile(r"[\x21-\x7e]+")
RENEW = "have the edge enrolled again: `python -m cloud_node enroll NAME` where the authority is"


def inbox_of(edge: str) -> str:
    """The prefix of the subjects at which an edge gets answers; the common one would let it hear those of others."""
    return f"_INBOX_{check_edge(edge)}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the file holds. Certificates and keys in PEM; `credentials` has a NATS .creds file for each of `edges`."""

    edges: tuple[str, ...]
    certificate: str = field(repr=False)
    key: str = field(repr=False)
    authority: str = field(repr=False)
    credentials: tuple[str, ...] = field(repr=False)
    cloud: tuple[str, ...]  # HOST:PORT
    nats: tuple[str, ...]  # URLs; none: as the cloud node says
    expires_s: int  # unix; of the certificate and the credentials

    def to_json(self) -> str:
        """The file's text."""
        body = {
            "kind": KIND,
            "version": VERSION,
            "edges": self.edges,
            "expires_s": self.expires_s,
            "cloud": self.cloud,
            "nats": self.nats,
            "certificate": self.certificate,
            "key": self.key,
            "authority": self.authority,
            "credentials": self.credentials,
        }
        return json.dumps(body, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Bundle":
        """Raises ValueError that says what is wrong, and never shows a secret."""
        try:
            body = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_small)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"it is no JSON, or cut short ({error.msg}, line {error.lineno})") from None
        if not isinstance(body, dict) or body.get("kind") != KIND:
            raise ValueError(f"it is no {KIND}")
        if body.get("version") != VERSION or isinstance(body["version"], bool):
            raise ValueError(f"its version is {str(body.get('version'))[:20]!r}, this program reads {VERSION}")
        names = {*cls.__dataclass_fields__, "kind", "version"}
        if unknown := body.keys() - names:
            raise ValueError(f"unknown key {sorted(unknown)[0][:40]!r}")
        if missing := names - body.keys():
            raise ValueError(f"{sorted(missing)[0]!r} is missing")
        expires_s = body["expires_s"]
        if not isinstance(expires_s, int) or isinstance(expires_s, bool) or expires_s <= 0:
            raise ValueError("'expires_s' is no time")
        return cls(
            edges=_edges(body),
            certificate=_text(body, "certificate", CERTIFICATES),
            key=_text(body, "key", PRIVATE_KEY),
            authority=_text(body, "authority", CERTIFICATES),
            credentials=_credentials(body),
            cloud=_addresses(body, "cloud"),
            nats=_addresses(body, "nats"),
            expires_s=expires_s,
        )


def read_private(path: Path, most: int = MAX_BYTES) -> str:
    """A file that only its owner can read, `most` bytes at most.

    Raises:
        SettingsError: it is not there, no plain file, readable by others, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold us up
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SettingsError(f"{path} is no plain file")
            # As PostgreSQL has it: what root owns may be for a group, such as a service's, or a systemd credential.
            theirs = 0o027 if found.st_uid == 0 and os.geteuid() != 0 else 0o077
            if found.st_mode & theirs:
                raise SettingsError(
                    f"{path} holds a private key and others can read it ({found.st_mode & 0o777:o}): "
                    f"run `chmod 600 {path}`"
                )
            data = file.read(most + 1)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in its name
        raise SettingsError(f"{str(path)!r}: {error}") from None
    if len(data) > most:
        raise SettingsError(f"{path} is larger than {most:,} bytes: it is not what it should be")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is no text: it is not what it should be, or broken") from None


def read_bundle(path: Path) -> Bundle:
    """Raises SettingsError."""
    text = read_private(path)
    try:
        bundle = Bundle.from_json(text)
        trusting(bundle.authority)
        trusting(bundle.certificate)  # whether it is one
        return bundle
    except (ValueError, SettingsError) as error:
        raise SettingsError(f"identity {path}: {error}: {RENEW}") from None


class Identity:
    """A bundle, read again when its file is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp(path)
        self._bundle = read_bundle(path)
        self._failed: tuple[object, float] = None, 0.0  # what could not be read, and when
        self._said = ""  # of that

    @property
    def bundle(self) -> Bundle:
        stamp = _stamp(self.path)
        failed, failed_s = self._failed
        if stamp is None or stamp == self._stamp or (stamp == failed and time.monotonic() - failed_s < AGAIN_S):
            return self._bundle
        try:
            found = read_bundle(self.path)
            if not set(self._bundle.edges) <= set(found.edges):
                raise SettingsError(f"{self.path} is of {' and '.join(found.edges)} now: another edge's")
            self._bundle, self._stamp, self._said = found, stamp, ""
            log.warning("identity %s was read again", self.path)
        except SettingsError as error:
            self._failed = stamp, time.monotonic()
            if str(error) != self._said:
                log.error("the identity stays as it was, and is tried again: %s", error)
            self._said = str(error)
        return self._bundle

    def login(self, edge: str) -> Login:
        """For NATS, as one of the bundle's edges. Raises SettingsError when it is none of them (any more)."""
        bundle = self.bundle
        if edge not in bundle.edges:
            raise SettingsError(f"identity {self.path} is of {' and '.join(bundle.edges)}, not of {edge}")
        return Login(bundle.credentials[bundle.edges.index(edge)], trusting(bundle.authority), inbox_of(edge))


def login_of(path: Path | None, edge: str) -> Callable[[], Login] | None:
    """What NATS connections of an edge ask for their login; None without a bundle. Raises as `identity_of`."""
    identity = identity_of(path)
    return None if identity is None else functools.partial(identity.login, edge)


@functools.cache
def identity_of(path: Path | None) -> Identity | None:
    """One for each file, shared. Raises SettingsError."""
    return None if path is None else Identity(path)


@functools.lru_cache(8)
def trusting(authority: str) -> ssl.SSLContext:
    """A client's TLS that trusts this authority (PEM) and none that the system knows. Raises SettingsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=authority)
    except ssl.SSLError:
        raise SettingsError("a certificate is broken") from None
    return context


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value here")


def _small(digits: str) -> int:
    if len(digits) > 12:
        raise ValueError("a number in it is too large")
    return int(digits)


def _edges(body: dict[str, Any]) -> tuple[str, ...]:
    found = body["edges"]
    if not isinstance(found, list) or not 0 < len(found) <= MAX_EDGES or len(set(map(str, found))) != len(found):
        raise ValueError(f"'edges' must be 1 to {MAX_EDGES} names")
    for edge in found:
        if not isinstance(edge, str):
            raise ValueError("'edges' must be names")
        check_edge(edge[:80])
    return tuple(found)


def _credentials(body: dict[str, Any]) -> tuple[str, ...]:
    found = body["credentials"]
    if (
        not isinstance(found, list)
        or len(found) != len(body["edges"])
        or not all(isinstance(item, str) and CREDENTIALS.fullmatch(item) for item in found)
    ):
        raise ValueError("'credentials' is not what it should be")
    return tuple(found)


def _addresses(body: dict[str, Any], name: str) -> tuple[str, ...]:
    found = body[name]
    if not isinstance(found, list) or len(found) > MAX_ADDRESSES:
        raise ValueError(f"{name!r} must be a list of at most {MAX_ADDRESSES} addresses")
    for item in found:
        if not isinstance(item, str) or len(item) > MAX_ADDRESS or "," in item or not ADDRESS.fullmatch(item):
            raise ValueError(f"{name!r} has something that is no address")
    return tuple(found)


def _text(body: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    found = body[name]
    if not isinstance(found, str) or not form.fullmatch(found):
        raise ValueError(f"{name!r} is not what it should be")
    return found
