"""NATS logins without a list of users: JSON Web Tokens, signed along a chain operator > account > user. Pure.

The format is nats-io/jwt version 2, with ed25519 signatures by nkeys. There are two accounts beside NATS's own. In
`results` the cloud nodes keep the streams. Edges are in `edges`, which has no JetStream: it imports three services of
`results`, to fetch, to look and to acknowledge. What an edge names as the place for an answer is then a subject of
`edges`, so that it cannot have one written into another edge's results, as it could within one account.

Edges ask at `lamplight.api`, which `results` exports and maps to `$JS.API` by itself. Were it the import that maps, an
answer whose place is such a subject would be mapped too, by a name that is too short: nats-server before 2.10.27 panics
(its #6612). As it is the answer keeps its name, which nobody listens to.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nkeys

from common.frame import Priority
from common.identity import EDGE_API, EDGE_MAX_PAYLOAD, inbox_of
from common.subjects import consumer_of

EDGES = "edges"  # what their account is called
JS_API, ACK = "$JS.API", "$JS.ACK"
NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT_LIMITS = {**NO_LIMITS, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
EDGES_LIMITS = {**ACCOUNT_LIMITS, "conn": 8_000, "leaf": 0}  # below a server's max_connections: cloud nodes come in
EDGE_LIMITS = {"subs": 64, "data": -1, "payload": EDGE_MAX_PAYLOAD}  # of one connection
STORE_LIMITS = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
SERVICES = (("CONSUMER.MSG.NEXT.*.*", "Stream"), ("CONSUMER.INFO.*.*", "Singleton"))
EDGE_SAYS = ("lamplight.readings.*", "lamplight.alerts.*")  # what those at the results account may hear of edges


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """An nkey: `seed` is the secret, `public` its name."""

    seed: str
    public: str

    @classmethod
    def make(cls, prefix: int) -> "Key":
        """prefix: one of nkeys.PREFIX_BYTE_OPERATOR, _ACCOUNT, _USER."""
        return cls.load(nkeys.encode_seed(os.urandom(32), prefix).decode())

    @classmethod
    def load(cls, seed: str) -> "Key":
        """Raises nkeys.NkeysError for what is no seed."""
        return cls(seed, nkeys.from_seed(bytearray(seed.encode())).public_key.decode())

    def __repr__(self) -> str:
        return f"Key({self.public}, seed=***)"


def operator(signer: Key, system: Key, issued_s: int) -> str:
    """The root of the chain: signed by itself."""
    return _token(signer, signer.public, "lamplight", {"type": "operator", "system_account": system.public}, issued_s)


Revoked = Mapping[str, int]  # public key -> unix seconds: logins of it that were issued until then are void


def system_account(signer: Key, account: Key, revoked: Revoked, issued_s: int) -> str:
    """NATS's own account, by which claims are handed in."""
    return _token(signer, account.public, "system", _account(ACCOUNT_LIMITS, revoked), issued_s)


def results_account(signer: Key, account: Key, edges: Key, revoked: Revoked, issued_s: int) -> str:
    """Where the streams lie."""
    exports = [
        {"name": f"{EDGE_API}.{what}", "subject": f"{EDGE_API}.{what}", "type": "service", "response_type": response}
        for what, response in SERVICES
    ]
    exports.append({"name": ACK, "subject": f"{ACK}.>", "type": "service", "response_type": "Singleton"})
    mappings = {f"{EDGE_API}.{what}": [{"subject": f"{JS_API}.{what.replace('*.*', '$1.$2')}"}] for what, _ in SERVICES}
    imports = [_import(subject, edges, "stream") for subject in EDGE_SAYS]
    return _token(
        signer,
        account.public,
        "results",
        {
            **_account({**ACCOUNT_LIMITS, **STORE_LIMITS}, revoked),
            "exports": exports,
            "imports": imports,
            "mappings": mappings,
        },
        issued_s,
    )


def edges_account(signer: Key, account: Key, results: Key, revoked: Revoked, issued_s: int) -> str:
    """Where edges log in."""
    imports = [_import(f"{EDGE_API}.{what}", results, "service") for what, _ in SERVICES]
    imports.append(_import(f"{ACK}.>", results, "service"))
    exports = [{"name": subject, "subject": subject, "type": "stream"} for subject in EDGE_SAYS]
    claims = {**_account(EDGES_LIMITS, revoked), "imports": imports, "exports": exports}
    return _token(signer, account.public, EDGES, claims, issued_s)


def edge_user(account: Key, user: Key, edge: str, issued_s: int, expires_s: int) -> str:
    """An edge fetches and acknowledges its own results, says what it read, and hears nothing but answers to itself.

    A login of one edge fits into the 4 KiB that nats-server takes of somebody it does not know yet.
    """
    consumers = [consumer_of(edge, priority) for priority in Priority]
    publish = [f"{EDGE_API}.CONSUMER.MSG.NEXT.{item.stream}.{item.name}" for item in consumers]
    publish += [f"{EDGE_API}.CONSUMER.INFO.{item.stream}.{item.name}" for item in consumers]
    publish += [f"{ACK}.{item.stream}.{item.name}.>" for item in consumers]
    publish += [subject.replace("*", edge) for subject in EDGE_SAYS]
    allowed = {"pub": {"allow": publish}, "sub": {"allow": [f"{inbox_of(edge)}.>"]}}
    claims = {"type": "user", **EDGE_LIMITS, **allowed, "allowed_connection_types": ["STANDARD"]}
    return _token(account, user.public, edge, claims, issued_s, expires_s)


def user(account: Key, key: Key, name: str, issued_s: int) -> str:
    """All rights within the account."""
    return _token(account, key.public, name, {"type": "user", **NO_LIMITS, "pub": {}, "sub": {}}, issued_s)


def credentials(token: str, key: Key) -> str:
    """A .creds file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
    )


def subject_of(token: str) -> str:
    """The public key that a token is about. It is not verified."""
    return str(_body(token)["sub"])


def name_of(token: str) -> str:
    """What a token calls whom it is about; "" for what is no token. It is not verified."""
    try:
        return str(_body(token)["name"])
    except (LookupError, TypeError, ValueError):
        return ""


def issued_of(token: str) -> int:
    """When a token was issued, in unix seconds. It is not verified. Raises ValueError for what is no token."""
    try:
        return int(_body(token)["iat"])
    except (LookupError, TypeError):
        raise ValueError("no token") from None


def maps_imports(token: str) -> bool:
    """Whether an account's claims are of before it was found that this lets an edge end nats-server. Not verified."""
    return any("local_subject" in item for item in _body(token)["nats"].get("imports", ()))


def _body(token: str) -> Any:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def _account(limits: Mapping[str, Any], revoked: Revoked) -> dict[str, Any]:
    made = {"type": "account", "limits": dict(limits), "default_permissions": {"pub": {}, "sub": {}}}
    return {**made, "revocations": dict(revoked)} if revoked else made


def _import(subject: str, account: Key, kind: str) -> dict[str, Any]:
    return {"name": subject, "subject": subject, "account": account.public, "type": kind}


def _token(signer: Key, subject: str, name: str, claims: Mapping[str, Any], issued_s: int, expires_s: int = 0) -> str:
    body: dict[str, Any] = {
        "iat": issued_s,
        "iss": signer.public,
        "name": name,
        "sub": subject,
        "nats": {**claims, "version": 2},
    }
    if expires_s:
        body["exp"] = expires_s
    plain = json.dumps(body, sort_keys=True, separators=(",", ":"))
    body["jti"] = base64.b32encode(hashlib.sha256(plain.encode()).digest()).decode().rstrip("=")
    head = _base64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    signed = f"{head}.{_base64(json.dumps(body, separators=(',', ':')).encode())}"
    key = nkeys.from_seed(bytearray(signer.seed.encode()))
    return f"{signed}.{_base64(key.sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
