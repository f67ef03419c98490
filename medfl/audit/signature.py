"""Ed25519 signatures in the format of OpenSSH (PROTOCOL.sshsig): stock `ssh-keygen -Y verify` checks them."""

import base64
import binascii
import hashlib
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from medfl.errors import AuditError, KeyFileError

REPORT = "medfl-audit"
DECISION = "medfl-decision"
_MAGIC, _KIND = b"SSHSIG", b"ssh-ed25519"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_NAME = re.compile(r"[A-Za-z0-9._@+-]+")
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}


class SigningKey:
    """A private Ed25519 key; it is never shown.

    Parameters
    ----------
    key : Ed25519PrivateKey
    comment : str
        Goes into the public line.
    """

    def __init__(self, key: Ed25519PrivateKey, comment: str) -> None:
        self._key = key
        self.comment = " ".join(comment.split())

    def __repr__(self) -> str:
        """Show the public fingerprint only."""
        return f"SigningKey({fingerprint(self.public_line())})"

    @classmethod
    def generate(cls, comment: str) -> Self:
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate(), comment)

    @classmethod
    def create(cls, path: Path, comment: str) -> Self:
        """Make a new key in a new file that only its owner can read, with the public line beside it in PATH.pub.

        Raises
        ------
        KeyFileError
            If the file is there, or cannot be written.
        """
        made = cls.generate(comment)
        content = made._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = path.with_name(f"{path.name}.pub")
        try:
            if public.exists():
                raise FileExistsError
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            public.write_text(f"{made.public_line()}\n", encoding="utf-8")
        except OSError as error:
            raise KeyFileError("A new key needs a place where no file is and where you may write.") from error
        return made

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key in OpenSSH's format, without a passphrase.

        Raises
        ------
        KeyFileError
            If it cannot be read, others may read it, it has a passphrase, or it is of another kind.
        """
        try:
            mode, content = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise KeyFileError(f"The signing key {path.name} must be a readable file; it is not.") from error
        if mode & 0o077:
            raise KeyFileError(f"Only you may read the signing key; others can. Run: chmod 600 {path.name}")
        try:
            key = serialization.load_ssh_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                f"The signing key {path.name} must be an OpenSSH key without a passphrase. With a passphrase, sign "
                f"with stock tools: ssh-keygen -Y sign -n {DECISION} -f KEY decision.json"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError("The signing key must be Ed25519. Make one with: ssh-keygen -t ed25519 -f KEY")
        return cls(key, "")

    def public_line(self) -> str:
        """Return ``ssh-ed25519 AAAA... comment``."""
        blob = base64.b64encode(_public_blob(self._key.public_key())).decode()
        return f"ssh-ed25519 {blob} {self.comment}".rstrip()

    def sign(self, message: bytes, namespace: str) -> str:
        """Return an armored signature over the SHA-512 of the message."""
        signed = self._key.sign(_signed(message, namespace.encode(), b"sha512"))
        blob = _MAGIC + (1).to_bytes(4, "big")
        for part in (
            _public_blob(self._key.public_key()),
            namespace.encode(),
            b"",
            b"sha512",
            _string(_KIND) + _string(signed),
        ):
            blob += _string(part)
        lines = textwrap.wrap(base64.b64encode(blob).decode(), 70)
        return "\n".join([_BEGIN, *lines, _END, ""])


def verify(message: bytes, signature: str, namespace: str, public_line: str) -> None:
    """Check a signature.

    Parameters
    ----------
    message : bytes
    signature : str
        Armored.
    namespace : str
        What the signature must be for; one for something else does not count.
    public_line : str
        Of the key that must have made it.

    Raises
    ------
    AuditError
        If it does not fit.
    """
    public, named, algorithm, raw = _parts(signature)
    if named != namespace.encode():
        raise AuditError(f"The signature must be for '{namespace}'; it is for something else.")
    if public != _blob_of(public_line):
        raise AuditError("The signature must be by the key that was given; another key made it.")
    try:
        _public_key(public).verify(raw, _signed(message, named, algorithm))
    except InvalidSignature as error:
        raise AuditError("The content must be what was signed; it, or the signature, was changed.") from error


def signer_of(signature: str) -> str:
    """Return the public key that a signature says it is by; whose it is, nothing in it says."""
    public = _parts(signature)[0]
    _public_key(public)
    return f"ssh-ed25519 {base64.b64encode(public).decode()}"


def fingerprint(public_line: str) -> str:
    """Return ``SHA256:...`` as ``ssh-keygen -lf`` prints it."""
    blob = _blob_of(public_line)
    _public_key(blob)
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def allowed_signers(identity: str, public_line: str, namespaces: Sequence[str]) -> str:
    """Return the line that ``ssh-keygen -Y verify -f FILE -I identity`` needs.

    Raises
    ------
    AuditError
        If a name could mean more than itself in such a file, or the key is none.
    """
    if not all(_NAME.fullmatch(name) for name in (identity, *namespaces)):
        raise AuditError("Names in a file of allowed signers must be letters, digits, '.', '_', '@', '+' or '-'.")
    _public_key(_blob_of(public_line))
    kind, blob = public_line.split()[:2]
    return f'{identity} namespaces="{",".join(namespaces)}" {kind} {blob}'


def _parts(signature: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Return public key blob, namespace, hash and raw signature."""
    lines = signature.strip().splitlines()
    if len(lines) < 3 or lines[0].strip() != _BEGIN or lines[-1].strip() != _END:
        raise AuditError("A signature must be an armored SSH signature; this one is not.")
    try:
        blob = base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AuditError("A signature must be valid base64; this one is not.") from error
    if blob[:10] != _MAGIC + (1).to_bytes(4, "big"):
        raise AuditError("A signature must be of version 1 of the SSH format; this one is not.")
    public, rest = _taken(blob[10:])
    namespace, rest = _taken(rest)
    _, rest = _taken(rest)
    algorithm, rest = _taken(rest)
    inner, rest = _taken(rest)
    kind, inner = _taken(inner)
    raw, inner = _taken(inner)
    if rest or inner or kind != _KIND or algorithm not in _HASHES:
        raise AuditError("A signature must be Ed25519 over SHA-512 or SHA-256, and nothing more; this one is not.")
    return public, namespace, algorithm, raw


def _public_key(blob: bytes) -> Ed25519PublicKey:
    kind, rest = _taken(blob)
    raw, rest = _taken(rest)
    if kind != _KIND or rest or len(raw) != 32:
        raise AuditError("A public key must be Ed25519; this one is not.")
    return Ed25519PublicKey.from_public_bytes(raw)


def _public_blob(key: Ed25519PublicKey) -> bytes:
    return _string(_KIND) + _string(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _blob_of(public_line: str) -> bytes:
    words = public_line.split()
    if len(words) < 2 or words[0] != "ssh-ed25519":
        raise AuditError("A public key must read 'ssh-ed25519 AAAA...'; this one does not.")
    try:
        return base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise AuditError("A public key must be valid base64; this one is not.") from error


def _signed(message: bytes, namespace: bytes, algorithm: bytes) -> bytes:
    digest = _HASHES[algorithm](message).digest()
    return _MAGIC + _string(namespace) + _string(b"") + _string(algorithm) + _string(digest)


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _taken(blob: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(blob[:4], "big")
    if len(blob) < 4 or len(blob) < 4 + size:
        raise AuditError("A signature must be complete; this one ends too early.")
    return blob[4 : 4 + size], blob[4 + size :]
