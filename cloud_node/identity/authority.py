"""The authority's folder: who was let in, and what cloud nodes and NATS servers need to know of it.

authority/            keep it where no cloud node runs, if you can: it can let anybody in
  ca.crt  ca.key      the certificates' authorities, the newest first; the key of the newest
  keys.json           the nkeys of the NATS operator and its accounts
  register.json       every bundle that was issued
  node/               all that a cloud node and a NATS server need; copy it to each
    ca.crt  server.crt  server.key
    nats.json         operator and accounts, as JWTs
    logins.json       the cloud nodes' own logins to NATS
    nats.conf         for a NATS server of your own: `nats-server -c node/nats.conf`
    operator.conf     the part of it that other configurations include
    revoked.json      serials of certificates that are void
    http.token        who knows it may see /status
"""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import nkeys

from cloud_node.identity import claims
from cloud_node.identity.certificates import Issuer
from cloud_node.identity.claims import Key
from common.errors import SettingsError
from common.files import write_private
from common.identity import MAX_EDGES, Bundle, read_private
from common.nats_server import LIMITS, MAX_PAYLOAD_BYTES
from common.subjects import check_edge

DAYS = 365
AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
HANDSHAKE_S = 10.0  # with NATS, over a slow link too: its own limit is 2 s
MOST_BYTES = 64 * 1024 * 1024
LONG_AFTER_S = 30 * 86_400  # what has expired is void anyway: on clocks that are not as far off as this
NEVER_S = 253_402_300_799  # the last that a date can say
SERIAL = re.compile(r"0x[0-9a-f]{1,40}|[0-9a-f]{16,40}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle that was issued."""

    edges: tuple[str, ...]
    serial: str  # of the certificate, hexadecimal
    nkeys: tuple[str, ...]  # public, of the NATS login of each
    issued_s: int
    expires_s: int
    revoked_s: int = 0  # 0 = it is not
    issuer: str = ""  # the fingerprint of the authority that signed; "" = it was not kept

    def state(self, now_s: float) -> str:
        return "revoked" if self.revoked_s else "expired" if self.expires_s <= now_s else "valid"


@dataclass(frozen=True, slots=True)
class NodeLogin:
    """A login of the cloud nodes to NATS that was issued."""

    account: str
    nkey: str
    revoked_s: int = 0
    issued_s: int = 0  # 0 = it was not kept


class Authority:
    """Raises SettingsError for what is not there, is broken, or would not be private."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.node = folder, folder / "node"
        if not (folder / "register.json").is_file():
            raise SettingsError(f"no authority in {folder}: make one with `python -m cloud_node enroll --init`")
        try:
            kept = json.loads(read_private(folder / "keys.json"))
            self._operator, self._system, self._results, self._edges = (
                Key.load(kept[name]) for name in ("operator", "system", "results", "edges")
            )
            register = json.loads(read_private(folder / "register.json", MOST_BYTES))
            self.names: tuple[str, ...] = tuple(register["names"])
            self.cloud: tuple[str, ...] = tuple(register["cloud"])
            self.nats: tuple[str, ...] = tuple(register["nats"])
            self.signed_s = int(register.get("signed_s", 0))  # when NATS's claims were issued
            self.logins = [NodeLogin(**item) for item in register["logins"]]
            self.entries = [
                Entry(**{**item, "edges": tuple(item["edges"]), "nkeys": tuple(item["nkeys"])})
                for item in register["entries"]
            ]
        except (ValueError, KeyError, TypeError, nkeys.NkeysError) as error:
            raise SettingsError(f"the authority in {folder} is broken: {type(error).__name__}") from None

    @classmethod
    def init(
        cls,
        folder: Path,
        names: Sequence[str],
        cloud: Sequence[str],
        nats: Sequence[str],
        existing: tuple[Path, Path] | None = None,
    ) -> "Authority":
        """Make a new authority, or let an existing one (certificate, key) sign the certificates."""
        if folder.exists() and any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty: an authority may be there already; name another --folder")
        if existing is None:
            issuer = Issuer.make(AUTHORITY_DAYS)
        else:
            where = f"--authority {existing[0]} {existing[1]}"
            try:
                certificate = existing[0].read_bytes()
            except OSError as error:
                raise SettingsError(f"{where}: {error.strerror}") from None
            issuer = Issuer.load(certificate, read_private(existing[1]).encode(), where)
        names = tuple(dict.fromkeys([*LOOPBACK_NAMES, *names]))
        server = issuer.server(names, SERVER_DAYS)  # what is wrong with the names shows before anything is written
        for path in (folder, folder / "node"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        account, operator = nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_OPERATOR
        keys = {name: Key.make(account).seed for name in ("system", "results", "edges")}
        write_private(folder / "keys.json", json.dumps({**keys, "operator": Key.make(operator).seed}))
        write_private(folder / "ca.key", issuer.key_pem)
        write_private(folder / "ca.crt", issuer.pem)
        write_private(folder / "node" / "ca.crt", issuer.pem)
        write_private(folder / "node" / "server.crt", server.chain)
        write_private(folder / "node" / "server.key", server.key)
        write_private(folder / "node" / "http.token", secrets.token_urlsafe(32) + "\n")
        _write_register(folder, names, cloud, nats, 0, (), ())
        made = cls(folder)
        made._write_logins()
        made._publish()
        return made

    @contextmanager
    def changing(self) -> Iterator["Authority"]:
        """Alone: two commands at once would each lose what the other did."""
        import fcntl

        with open(self.folder / "lock", "a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SettingsError(f"another command is at work in {self.folder}: try again") from None
            yield Authority(self.folder)

    def enroll(self, edges: Sequence[str], days: float = DAYS) -> Bundle:
        """A new bundle for an edge node with these names, the first its usual one. Former ones stay valid."""
        for edge in edges:
            check_edge(edge)
        if len(edges) > MAX_EDGES:
            raise SettingsError(f"{len(edges)} names in one bundle, {MAX_EDGES} at most")
        if len(set(edges)) != len(edges):
            raise SettingsError(f"{','.join(edges)}: a name is there twice")
        issuer, issued_s = self._issuer(), int(time.time())
        issued = issuer.client(edges, days)
        keys = [Key.make(nkeys.PREFIX_BYTE_USER) for _ in edges]
        tokens = [
            claims.edge_user(self._edges, key, edge, issued_s, issued.expires_s)
            for key, edge in zip(keys, edges, strict=True)
        ]
        names = tuple(key.public for key in keys)
        self.entries.append(
            Entry(tuple(edges), issued.serial, names, issued_s, issued.expires_s, issuer=issuer.fingerprint)
        )
        self._write()
        return Bundle(
            edges=tuple(edges),
            certificate=issued.chain.decode(),
            key=issued.key.decode(),
            authority=(self.folder / "ca.crt").read_text(),
            credentials=tuple(map(claims.credentials, tokens, keys)),
            cloud=self.cloud,
            nats=self.nats,
            expires_s=issued.expires_s,
        )

    def revoke(self, what: str) -> list[Entry]:
        """All bundles of an edge, or the certificate with a serial, from now on. Returns those that were valid.

        A serial need not be known: an existing authority, or one whose register was lost, has others too.
        """
        serial = what.lower().replace(":", "")
        plain = serial.removeprefix("0x").lstrip("0")
        matching = [item for item in self.entries if what in item.edges or plain == item.serial]
        if not matching:
            if not SERIAL.fullmatch(serial):
                raise SettingsError(
                    f"{what}: no edge and no serial of that name was enrolled (see `enroll --list`). A serial that was "
                    "not is taken in hexadecimal, with 0x before it when it has fewer than 16 digits"
                )
            matching = [Entry((), plain, (), int(time.time()), NEVER_S)]
            self.entries += matching
        revoked = [self._revoke(entry) for entry in matching if not entry.revoked_s]
        self._publish()
        return revoked

    def rotate(self, names: Sequence[str] = ()) -> None:
        """New certificate, key, logins and token for the cloud nodes; `names` are added to its host names."""
        self.names = tuple(dict.fromkeys([*self.names, *names]))
        server = self._issuer().server(self.names, SERVER_DAYS)
        write_private(self.node / "server.key", server.key)
        write_private(self.node / "server.crt", server.chain)
        write_private(self.node / "http.token", secrets.token_urlsafe(32) + "\n")
        self._write_logins()
        self._publish()

    def rotate_authority(self) -> None:
        """Sign with a new authority from now on; the former ones stay trusted until `forget_former`."""
        issuer = Issuer.make(AUTHORITY_DAYS)
        trusted = issuer.pem + (self.folder / "ca.crt").read_bytes()
        for folder in (self.node, self.folder):
            write_private(folder / "ca.crt", trusted)
        write_private(self.folder / "ca.key", issuer.key_pem)

    def forget_former(self) -> None:
        """Trust the newest authority alone, and the newest logins of the cloud nodes. Who holds former ones is out."""
        issuer = self._issuer()
        newest = Issuer(issuer.certificates[:1], issuer.key)
        if newest.certificates[0].issuer != newest.certificates[0].subject:
            raise SettingsError("the newest authority is under another one, which must stay")
        for folder in (self.node, self.folder):
            write_private(folder / "ca.crt", newest.pem)
        newest_nkeys = {item.account: item.nkey for item in self.logins}
        for index, login in enumerate(self.logins):
            if login.nkey != newest_nkeys[login.account] and not login.revoked_s:
                self.logins[index] = replace(login, revoked_s=_void_at(login.issued_s))
        made_s = newest.certificates[0].not_valid_before_utc.timestamp()
        for entry in list(self.entries):
            former = entry.issuer != newest.fingerprint if entry.issuer else entry.issued_s < made_s
            if former and not entry.revoked_s:
                self._revoke(entry)
        self._publish()

    def _revoke(self, entry: Entry) -> Entry:
        revoked = replace(entry, revoked_s=_void_at(entry.issued_s))
        self.entries[self.entries.index(entry)] = revoked
        return revoked

    def _issuer(self) -> Issuer:
        """The newest whose key is there: `rotate_authority` that was cut short left one without."""
        key = read_private(self.folder / "ca.key").encode()
        return Issuer.load((self.folder / "ca.crt").read_bytes(), key, str(self.folder), any_of_them=True)

    def _void(self, account: str) -> dict[str, int]:
        return {item.nkey: item.revoked_s for item in self.logins if item.account == account and item.revoked_s}

    def _write(self) -> None:
        _write_register(self.folder, self.names, self.cloud, self.nats, self.signed_s, self.entries, self.logins)

    def _publish(self) -> None:
        """Register and node/, with claims that are newer than those before, whatever the clock says."""
        self.signed_s = max(int(time.time()), self.signed_s + 1)
        self._write()
        self._write_node()

    def _write_logins(self) -> None:
        """New logins of the cloud nodes."""
        made, issued_s = {}, int(time.time())
        for name, account in (("results", self._results), ("system", self._system)):
            key = Key.make(nkeys.PREFIX_BYTE_USER)
            self.logins.append(NodeLogin(name, key.public, issued_s=issued_s))
            made[name] = claims.credentials(claims.user(account, key, f"cloud node, {name}", issued_s), key)
        write_private(self.node / "logins.json", json.dumps(made, indent=1))

    def _write_node(self) -> None:
        """What changes with a revocation, last what is read first."""
        now_s, signed_s = time.time(), self.signed_s
        void = [item for item in self.entries if item.revoked_s and item.expires_s + LONG_AFTER_S > now_s]
        accounts = {
            self._system.public: claims.system_account(self._operator, self._system, self._void("system"), signed_s),
            self._results.public: claims.results_account(
                self._operator, self._results, self._edges, self._void("results"), signed_s
            ),
            self._edges.public: claims.edges_account(
                self._operator,
                self._edges,
                self._results,
                {nkey: item.revoked_s for item in void for nkey in item.nkeys},
                signed_s,
            ),
        }
        nats = {
            "operator": claims.operator(self._operator, self._system, signed_s),
            "system_account": self._system.public,
            "accounts": accounts,
        }
        write_private(self.node / "nats.json", json.dumps(nats, indent=1))
        write_private(self.node / "nats.conf", _nats_conf(nats))
        write_private(self.node / "operator.conf", _operator_conf(nats))
        write_private(self.node / "revoked.json", json.dumps(sorted(item.serial for item in void), indent=1))


def _void_at(issued_s: int) -> int:
    """When a login is to be void: NATS compares with when it was issued, by a clock that may have gone back since."""
    return max(int(time.time()), issued_s)


def _write_register(
    folder: Path,
    names: Sequence[str],
    cloud: Sequence[str],
    nats: Sequence[str],
    signed_s: int,
    entries: Sequence[Entry],
    logins: Sequence[NodeLogin],
) -> None:
    body = {
        "names": names,
        "cloud": cloud,
        "nats": nats,
        "signed_s": signed_s,
        "entries": list(map(asdict, entries)),
        "logins": list(map(asdict, logins)),
    }
    write_private(folder / "register.json", json.dumps(body, indent=1))


def _nats_conf(nats: Mapping[str, object]) -> str:
    """For a server that is started in the folder of this file; nats-server reads JSON as its own format."""
    body = {
        "host": "0.0.0.0",
        "port": 4222,
        "max_payload": MAX_PAYLOAD_BYTES,
        **LIMITS,
        "jetstream": {"store_dir": "nats-store"},
        "tls": {"cert_file": "server.crt", "key_file": "server.key", "ca_file": "ca.crt", "timeout": HANDSHAKE_S},
        "resolver": {"type": "full", "dir": "nats-accounts", "allow_delete": False, "interval": "2m"},
        **_operator(nats),
    }
    return json.dumps(body, indent=1) + "\n"


def _operator_conf(nats: Mapping[str, object]) -> str:
    """Without braces, as an included file must be."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in _operator(nats).items())


def _operator(nats: Mapping[str, object]) -> dict[str, object]:
    return {
        "operator": nats["operator"],
        "system_account": nats["system_account"],
        "resolver_preload": nats["accounts"],
    }
