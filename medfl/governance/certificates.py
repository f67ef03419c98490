"""A hub's private certificate authority: sites trust its certificate alone, never the public ones of the system."""

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medfl.errors import ConfigError, KeyFileError
from medfl.results.atomic import write_bytes

CERTIFICATE, KEY = "ca.crt", "ca.key"
AUTHORITY_YEARS, SERVER_DAYS = 10, 397
_BACKDATED = timedelta(hours=1)
_LONGEST_ISSUER = 80
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


@dataclass(frozen=True)
class ServerCertificate:
    """What a server shows, and the key that only it has.

    Attributes
    ----------
    certificate : bytes
        PEM.
    private_key : bytes
        PEM (PKCS 8), without a passphrase.
    """

    certificate: bytes
    private_key: bytes

    def __repr__(self) -> str:
        """Never show the key."""
        return "ServerCertificate()"


class Authority:
    """A certificate authority: ECDSA P-256, for servers below it and for signed answers.

    Parameters
    ----------
    key : EllipticCurvePrivateKey
    certificate : Certificate
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate

    def __repr__(self) -> str:
        """Show the public fingerprint only."""
        return f"Authority({self.fingerprint})"

    @classmethod
    def create(cls, folder: Path, name: str, now: datetime) -> Self:
        """Make an authority in an empty folder: `ca.key` (mode 0600) and `ca.crt`.

        Parameters
        ----------
        folder : Path
            Must exist.
        name : str
            Of the hub.
        now : datetime
            With a time zone.

        Raises
        ------
        KeyFileError
            If one is there already, or it cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"medfl hub {name}"[:64])])
        certificate = (
            _builder(subject, subject, key.public_key(), now, timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        try:
            handle = os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(_private(key))
            write_bytes(folder / CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
        except OSError as error:
            raise KeyFileError(
                f"A new authority needs a folder without one where you may write; this one is not ({error.strerror})."
            ) from error
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an authority that `create` made.

        Raises
        ------
        KeyFileError
            If a file is missing or unreadable, others may read the key, or key and certificate do not belong together.
        """
        try:
            mode, content = (folder / KEY).stat().st_mode, (folder / KEY).read_bytes()
            certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
            key = serialization.load_pem_private_key(content, password=None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyFileError(f"The hub's authority must be readable ({KEY}, {CERTIFICATE}); it is not.") from error
        if mode & 0o077:
            raise KeyFileError(f"Only the hub's account may read {KEY}; others can. Run: chmod 600 {KEY}")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise KeyFileError(f"{KEY} must be the key of {CERTIFICATE}; it is another one.")
        return cls(key, certificate)

    @property
    def pem(self) -> str:
        """The certificate, for sites."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate; see `fingerprint_of`."""
        return _fingerprint(self._certificate)

    def issue(self, hosts: Sequence[str], now: datetime) -> ServerCertificate:
        """Return a new key and a certificate for a server, good for 397 days.

        Parameters
        ----------
        hosts : sequence of str
            Names and addresses by which sites reach it.
        now : datetime
            With a time zone.

        Raises
        ------
        ConfigError
            If a host is neither a name nor an address.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_name_of(host) for host in dict.fromkeys(hosts)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "medfl hub server")])
        certificate = (
            _builder(subject, self._certificate.subject, key.public_key(), now, timedelta(days=SERVER_DAYS))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return ServerCertificate(certificate.public_bytes(serialization.Encoding.PEM), _private(key))

    def sign(self, message: bytes) -> bytes:
        """Return an ECDSA signature (DER) over the SHA-256 of a message."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


def verify_by_authority(pem: str, message: bytes, signature: bytes) -> bool:
    """Tell whether the key of an authority's certificate signed a message.

    Raises
    ------
    ConfigError
        If it is no certificate of such an authority.
    """
    key = read_certificate(pem.encode()).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError("A hub's authority must have an elliptic-curve key; this one has another.")
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def fingerprint_of(pem: str) -> str:
    """Return the SHA-256 of a certificate: 64 hexadecimal digits, to be read out on the telephone.

    Raises
    ------
    ConfigError
        If it is no certificate.
    """
    return _fingerprint(read_certificate(pem.encode()))


def valid_until(pem: bytes) -> datetime:
    """Return when a certificate ends, in UTC.

    Raises
    ------
    ConfigError
        If it is no certificate.
    """
    return read_certificate(pem).not_valid_after_utc


def issuer_and_end(der: bytes) -> tuple[str, datetime]:
    """Return who issued a certificate that some server showed, and when it ends; nothing about it is checked.

    Parameters
    ----------
    der : bytes

    Raises
    ------
    ConfigError
        If it is no certificate.
    """
    try:
        found = x509.load_der_x509_certificate(der)
        issuer = found.issuer.rfc4514_string()
    except ValueError as error:
        raise ConfigError("A server must show a certificate; this is none.") from error
    return "".join(letter for letter in issuer if letter.isprintable())[:_LONGEST_ISSUER], found.not_valid_after_utc


def read_certificate(pem: bytes) -> x509.Certificate:
    """Return the one certificate in a PEM text.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError("A certificate must be PEM text; this is not.") from error
    if len(found) != 1:
        raise ConfigError(f"There must be one certificate; found {len(found)}.")
    return found[0]


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    start = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _BACKDATED)
        .not_valid_after(start + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if _HOST.fullmatch(host) is None:
            raise ConfigError(
                "A host must be a name of letters, digits, '-' and '.', or an IP address; found something else."
            ) from None
        return x509.DNSName(host)
