"""What an authority's register keeps of all that was issued."""

from dataclasses import dataclass


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
