"""A site's key pair: ECDSA P-384 in OpenSSH's format, as Flower's SuperNode takes it. The private key never leaves."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from medfl.errors import KeyFileError


def create_site_key(path: Path, comment: str) -> str:
    """Make a key pair: the private key in `path`, mode 0600, the public one beside it as `NAME.pub`.

    Parameters
    ----------
    path : Path
        New file; its folder must exist.
    comment : str
        Of the public key: the site's name, letters, digits, '.', '_' and '-'.

    Returns
    -------
    str
        The public key, one line: "ecdsa-sha2-nistp384 AAAA... COMMENT".

    Raises
    ------
    KeyFileError
        If one of the files exists already, or cannot be written.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = f"{key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"
    beside = path.with_name(f"{path.name}.pub")
    if path.exists() or beside.exists():
        raise KeyFileError(f"A site's key must be new; {path.name} is there already. Keep it, or move it away first.")
    _write_new(path, private, 0o600)
    _write_new(beside, f"{public}\n".encode(), 0o644)
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeyFileError(f"The key {path.name} must be written; it cannot be ({error.strerror}).") from error
