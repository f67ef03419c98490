"""Pseudonyms for patients, studies and series.

A pseudonym is HMAC-SHA256 (FIPS 198-1) under a key that never leaves the site: the same patient always gets the same
one, two sites with different keys never agree on one, and without the key a list of known patient ids cannot be tried
out. It replaces the name; it does not make an image anonymous.
"""

import base64
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from medfl.errors import DataError

_KEY_BYTES = 32
#: Twenty characters of five bits: among a million identifiers, a collision has a probability below 1e-18.
_LENGTH = 20


def pseudonym(key: bytes, domain: str, identifier: str) -> str:
    """Return the pseudonym of an identifier.

    Parameters
    ----------
    key : bytes
        From `load_pseudonym_key`, 32 bytes.
    domain : str
        What is named, such as ``"subject"`` or ``"study"``: equal identifiers in two domains get unrelated pseudonyms.
    identifier : str
        Such as a DICOM PatientID; leading and trailing white space does not count.

    Returns
    -------
    str
        20 characters of lower-case base32 (a-z, 2-7): 100 bits.

    Raises
    ------
    DataError
        If the key has another length, or the identifier is empty.
    """
    if len(key) != _KEY_BYTES:
        raise DataError(f"The pseudonym key must have {_KEY_BYTES} bytes, got {len(key)}.")
    if not identifier.strip():
        raise DataError("The identifier must not be empty: all patients without one would become the same subject.")
    parts = [b"medfl pseudonym 1", domain.encode(), identifier.strip().encode("utf-8", "backslashreplace")]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:_LENGTH]


def create_pseudonym_key(path: Path) -> bytes:
    """Write a new random key that only its owner can read, and return it.

    Parameters
    ----------
    path : Path
        Must not exist: replacing a key would give every patient a second pseudonym. Its folder exists.

    Raises
    ------
    DataError
        If there is a file already.
    """
    key = secrets.token_bytes(_KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise DataError("The file for the new pseudonym key must not exist yet; it does. Keep the old key.") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def load_pseudonym_key(path: Path) -> bytes:
    """Read a key written by `create_pseudonym_key`.

    Raises
    ------
    DataError
        If the file is missing, a link, readable or writable by others, or holds something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(f"The pseudonym key cannot be opened: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise DataError("The pseudonym key must be a file only its owner can read and write; run chmod 600 on it.")
        content = file.read(4 * _KEY_BYTES)
    try:
        key = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise DataError(
            f"The pseudonym key must be {2 * _KEY_BYTES} hexadecimal digits; the file holds something else."
        )
    return key
