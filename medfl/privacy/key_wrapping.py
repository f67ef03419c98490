"""Handing a key to one recipient, through hands that must not have it.

Every party has an X25519 key pair. A key is wrapped for the public one with HPKE (RFC 9180: DHKEM(X25519, HKDF-SHA256),
HKDF-SHA256, ChaCha20Poly1305, base mode), and what it is (purpose, key id, epoch, recipient) goes into HPKE's info, so
that nothing of it can be changed. Base mode does not say who wrapped it: anybody who knows a public key can. Recipients
compare the key id with the sender over another channel.
"""

import base64
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from medfl.errors import EnvelopeError, KeyFileError
from medfl.privacy.key_files import KINDS, KeyFile, read_private, write_private
from medfl.privacy.keys import decode_base64, parse_json
from medfl.privacy.keystream import KEY_BYTES, Secret
from medfl.results.canonical import canonical_json

_SCHEMA = "medfl/wrapped-key/1"
_PUBLIC_PREFIX = "medfl-x25519 "


@dataclass(frozen=True)
class WrapHeader:
    """What a wrapped key is; readable by everybody, changed by nobody.

    Parameters
    ----------
    purpose : str
        The kind of a key file, or what an envelope key is for.
    key_id : str
    epoch : int
        At least 0.
    """

    purpose: str
    key_id: str
    epoch: int


class Identity(Secret):
    """The key pair of one party; made by `generate`, `create` or `load`."""

    __slots__ = ("_private",)

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    def __repr__(self) -> str:
        """Show the public key only."""
        return f"<Identity {self.public_key()}>"

    @classmethod
    def generate(cls) -> Self:
        """Return a new identity that lives as long as the process."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new identity: the private key to `path` (PEM, PKCS #8), the public one beside it as `NAME.pub`.

        Raises
        ------
        KeyFileError
            If one of the files exists already or cannot be written.
        """
        identity = cls.generate()
        pem = identity._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, pem)
        try:
            write_private(path.with_name(f"{path.name}.pub"), f"{identity.public_key()}\n".encode())
        except KeyFileError:
            path.unlink()
            raise
        return identity

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an identity.

        Raises
        ------
        KeyFileError
            If the file is missing, unsafe or holds no X25519 private key.
        """
        private = _private_key(read_private(path))
        if private is None:
            raise KeyFileError(f"{path.name} must hold an X25519 private key as unencrypted PEM; it does not.")
        return cls(private)

    def public_key(self) -> str:
        """Return the public key as one line, ``"medfl-x25519 BASE64"``, for whoever wraps keys for this party."""
        return _PUBLIC_PREFIX + base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def decrypt(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed for this party with HPKE.

        Raises
        ------
        EnvelopeError
            If it was changed, or sealed for somebody else or with another info.
        """
        try:
            return _suite().decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise EnvelopeError(
                "The wrapped key must be for this identity and unchanged; it is not. Ask the sender for a new one."
            ) from None


def wrap(content: bytes, recipient: str, header: WrapHeader) -> str:
    """Seal secret bytes for one recipient.

    Parameters
    ----------
    content : bytes
    recipient : str
        Public key, ``"medfl-x25519 BASE64"``.
    header : WrapHeader
        Bound to the content.

    Returns
    -------
    str
        Canonical JSON in one line.

    Raises
    ------
    KeyFileError
        If the recipient's key is no public key.
    """
    public = _public_key(recipient)
    facts = {"schema": _SCHEMA, "recipient": recipient.strip(), **asdict(header)}
    try:
        sealed = _suite().encrypt(content, public, canonical_json(facts))
    except ValueError:
        raise KeyFileError("A recipient's key must be a real one; this is a point of small order.") from None
    return canonical_json({**facts, "sealed": base64.b64encode(sealed).decode()}).decode()


def unwrap(wrapped: str, identity: Identity) -> tuple[WrapHeader, bytes]:
    """Return what a wrapped key is, and its content.

    Parameters
    ----------
    wrapped : str
        From `wrap`, to the byte.
    identity : Identity
        The recipient's own.

    Raises
    ------
    EnvelopeError
        If it is for somebody else, or anything was changed.
    """
    facts = _canonical_facts(wrapped)
    match facts:
        case {
            "schema": str(schema),
            "recipient": str(recipient),
            "purpose": str(purpose),
            "key_id": str(key_id),
            "epoch": int(epoch),
            "sealed": str(text),
        } if len(facts) == 6 and schema == _SCHEMA:
            sealed = decode_base64(text)
        case _:
            raise EnvelopeError(f"A wrapped key must be canonical JSON of schema {_SCHEMA}; this is not.")
    if sealed is None or recipient != identity.public_key():
        raise EnvelopeError("The wrapped key must be for this identity; it is for another one, or was changed.")
    info = canonical_json({name: value for name, value in facts.items() if name != "sealed"})
    return WrapHeader(purpose, key_id, epoch), identity.decrypt(sealed, info)


def wrap_key_file(path: Path, recipient: str, today: date | None = None) -> str:
    """Wrap a key file for one recipient; its counts stay here.

    Raises
    ------
    KeyFileError
        If the key may not be used any more, or the recipient's key is no public key.
    """
    file = KeyFile.load(path, today)
    header = WrapHeader(file.info.kind, file.info.key_id, file.info.epoch)
    return wrap(file.secret_content(), recipient, header)


def unwrap_key_file(wrapped: str, identity: Identity, out: Path) -> KeyFile:
    """Write the key file that was wrapped for this party.

    Raises
    ------
    EnvelopeError
        If it is for somebody else, no key file, or anything was changed.
    KeyFileError
        If the content is not usable, or `out` exists already.
    """
    header, content = unwrap(wrapped, identity)
    if header.purpose not in KINDS:
        raise EnvelopeError(f"A wrapped key file must be of kind {' or '.join(KINDS)}; this is another key.")
    facts = parse_json(content) or {}
    if header != WrapHeader(facts.get("kind", ""), facts.get("key_id", ""), facts.get("epoch", -1)):
        raise EnvelopeError("The header of a wrapped key must tell what is in it; it does not. Ask for a new one.")
    return KeyFile.install(out, content)


def read_line(path: Path) -> str:
    """Return the one line of a public key file or of a wrapped key, without checking it.

    Raises
    ------
    KeyFileError
        If the file cannot be read or is no text.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise KeyFileError(f"{path.name} must be a readable text file; it is not.") from None


def _suite() -> hpke.Suite:
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def _public_key(text: str) -> X25519PublicKey:
    raw = decode_base64(text.strip().removeprefix(_PUBLIC_PREFIX)) if text.startswith(_PUBLIC_PREFIX) else None
    if raw is None or len(raw) != KEY_BYTES:
        raise KeyFileError(f"A recipient's key must be one line '{_PUBLIC_PREFIX}BASE64' of 32 bytes; this is not.")
    return X25519PublicKey.from_public_bytes(raw)


def _private_key(pem: bytes) -> X25519PrivateKey | None:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, X25519PrivateKey) else None


def _canonical_facts(wrapped: str) -> dict[str, Any]:
    try:
        facts = parse_json(wrapped.encode()) or {}
        return facts if canonical_json(facts) == wrapped.encode() else {}
    except (ValueError, RecursionError):
        return {}
