"""Certificates of edges and cloud nodes, made and read. Pure: no files.

An edge's certificate names it in a URI (spiffe://lamplight/edge/NAME, after SPIFFE's X.509-SVID), has no host name and
may only be a client's; a cloud node's names hosts and may only be a server's. So neither passes for the other.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import SettingsError
from common.subjects import check_edge

EDGE_URI = "spiffe://lamplight/edge/"
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SKEW = timedelta(minutes=10)  # a certificate counts from a little before it was made: clocks differ


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, in PEM; `chain` has the authorities' between it and the root after it."""

    chain: bytes
    key: bytes
    serial: str  # hexadecimal
    expires_s: int  # unix

    def __repr__(self) -> str:
        return f"Issued(serial={self.serial}, expires_s={self.expires_s}, key=***)"


@dataclass(frozen=True, slots=True)
class Holder:
    """What a client's certificate says."""

    edges: tuple[str, ...]
    serial: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority that signs."""

    certificates: tuple[x509.Certificate, ...]  # its own first, then those above it
    key: SigningKey

    @classmethod
    def make(cls, days: int) -> "Issuer":
        """A new authority, its own root."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Lamplight authority {made:%Y-%m-%d %H:%M:%S.%f}")])
        certificate = (
            _builder(name, name, key.public_key(), made, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls((certificate,), key)

    @classmethod
    def load(cls, certificates: bytes, key: bytes, where: str, any_of_them: bool = False) -> "Issuer":
        """From PEM. The key is that of the first certificate; with `any_of_them`, those before its own are passed over.

        Raises SettingsError when they are none, do not belong together, or are no authority's.
        """
        try:
            chain = x509.load_pem_x509_certificates(certificates)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{where}: no certificate and unencrypted key in PEM: {error}") from None
        while any_of_them and len(chain) > 1 and private.public_key() != chain[0].public_key():
            del chain[0]
        if private.public_key() != chain[0].public_key():
            raise SettingsError(f"{where}: the key is not that of the first certificate")
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise SettingsError(f"{where}: the key must be an elliptic curve's or RSA")
        try:
            authority = chain[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            authority = False
        if not authority:
            raise SettingsError(f"{where}: the certificate is not an authority's (basic constraints CA:TRUE)")
        return cls(tuple(chain), private)

    @property
    def fingerprint(self) -> str:
        """Of its own certificate: SHA-256, hexadecimal."""
        return self.certificates[0].fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> bytes:
        return b"".join(map(_pem, self.certificates))

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self.key)

    def client(self, edges: Sequence[str], days: float) -> Issued:
        """For an edge node that may use these names. Raises SettingsError for a bad name."""
        uris = [x509.UniformResourceIdentifier(EDGE_URI + check_edge(edge)) for edge in edges]
        return self._issue(f"Lamplight edge {edges[0]}", uris, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def server(self, names: Sequence[str], days: float) -> Issued:
        """For cloud nodes and NATS servers that are reached by these host names and addresses."""
        return self._issue("Lamplight cloud", [_host(name) for name in names], ExtendedKeyUsageOID.SERVER_AUTH, days)

    def _issue(self, title: str, names: Sequence[x509.GeneralName], use: x509.ObjectIdentifier, days: float) -> Issued:
        key, own = ec.generate_private_key(ec.SECP256R1()), self.certificates[0]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:64])])
        certificate = (
            _builder(subject, own.subject, key.public_key(), datetime.now(UTC), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        between = [item for item in self.certificates if item.issuer != item.subject]
        chain = b"".join(map(_pem, [certificate, *between]))
        expires_s = int(certificate.not_valid_after_utc.timestamp())
        return Issued(chain, _key_pem(key), f"{certificate.serial_number:x}", expires_s)


def holder_of(pem: bytes) -> Holder:
    """Who a client's certificate was issued for; no edges when it is not of Lamplight. Raises ValueError."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    edges = tuple(uri.removeprefix(EDGE_URI) for uri in uris if uri.startswith(EDGE_URI))
    return Holder(edges, f"{certificate.serial_number:x}", int(certificate.not_valid_after_utc.timestamp()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, made: datetime, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(made - SKEW if days * 86_400 > SKEW.total_seconds() else made - timedelta(seconds=1))
        .not_valid_after(made + timedelta(days=days))
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except (ValueError, TypeError):
        raise SettingsError(f"--name {name!r}: a host name or an IP address") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: SigningKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
