"""From one master key to one key for each use, by HKDF-SHA256 (RFC 5869).

A master key never touches features. `MasterKey.derive` gives one `ContextKey` for one exact use, described by a
`KeyContext`; that one gives independent 32-byte component keys. Change any field of the context and every number
derived from it changes.
"""

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, fields
from typing import Any, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from medfl.errors import ConfigError, KeyFileError
from medfl.privacy.keystream import KEY_BYTES, Keystream, Secret, require_key

_VERSION = "knt/v1"
_KEY_ID_BYTES = 8
_LENGTH_BYTES = 4


def hkdf_extract(salt: bytes, key: bytes) -> bytes:
    """Return HKDF-Extract with SHA-256, 32 bytes (RFC 5869, section 2.2)."""
    return hmac.digest(salt, key, hashlib.sha256)


def hkdf_expand(pseudorandom_key: bytes, info: bytes, length: int) -> bytes:
    """Return `length` bytes of HKDF-Expand with SHA-256 (RFC 5869, section 2.3)."""
    return HKDFExpand(SHA256(), length, info).derive(pseudorandom_key)


def key_id_of(key: bytes, label: str) -> str:
    """Return the first 8 bytes of HMAC-SHA256(key, label) as 16 hexadecimal digits; it says nothing about the key."""
    return hmac.digest(key, label.encode(), hashlib.sha256)[:_KEY_ID_BYTES].hex()


@dataclass(frozen=True)
class KeyContext:
    """What a key is for; every field separates keys.

    Parameters
    ----------
    tenant : str
        Who runs the federation; tenants never share keys.
    site : str
        The hospital; empty where a key is shared by the federation.
    purpose : str
        For example ``"training"``.
    model : str
        Name and SHA-256 of the encoder's weights.
    layer : str
        Where the network is split.
    shape : tuple of int
        Features of one image: (C,), (C, H, W) or (C, D, H, W).
    settings : str
        Hash of the transform's settings.
    scope : str
        ``"federation"``, ``"site"``, ``"epoch"``, ``"session"`` or ``"sample"``.
    epoch : int
        At least 0; rotation counts it up.
    session, sample : str
        Names of the session and of the sample, where the scope is that narrow.

    Raises
    ------
    ConfigError
        If a field has the wrong type or range.
    """

    tenant: str
    site: str
    purpose: str
    model: str
    layer: str
    shape: tuple[int, ...]
    settings: str
    scope: str
    epoch: int
    session: str = ""
    sample: str = ""

    def __post_init__(self) -> None:
        """Check every field, because a wrong context is a wrong key."""
        if not isinstance(self.shape, tuple) or not all(_is_int(size) and size > 0 for size in self.shape):
            raise ConfigError("The shape of a key context must be a tuple of positive integers: channels, then sizes.")
        if not _is_int(self.epoch) or self.epoch < 0:
            raise ConfigError("The epoch of a key context must be an integer of at least 0.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("shape", "epoch") and not (isinstance(value, str) and _is_text(value)):
                raise ConfigError(f"The field {field.name!r} of a key context must be text.")

    def encoded(self) -> bytes:
        """Return the context as bytes; different contexts never share them.

        ``"knt/v1"`` and then the fields in order, each with its length in front (4 bytes, big-endian). Text is UTF-8,
        an integer is its decimal digits, the shape is the digits of its sizes, each with a length of its own.
        """
        values = [getattr(self, field.name) for field in fields(self)]
        return b"".join(_prefixed(_encoded(value)) for value in [_VERSION, *values])


class ContextKey(Secret):
    """The key of one exact use.

    Parameters
    ----------
    key : bytes
        32 bytes; normally from `MasterKey.derive`.
    """

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        self._key = require_key(key, "A context key")
        self.key_id = key_id_of(self._key, f"{_VERSION}|kid")

    def __repr__(self) -> str:
        """Show the key id only."""
        return f"<ContextKey {self.key_id}>"

    def component(self, label: str) -> bytes:
        """Return the 32-byte key of one component, such as ``"mix|0"``; use it for one thing."""
        return hkdf_expand(self._key, f"{_VERSION}|{label}".encode(), KEY_BYTES)

    def stream(self, label: str) -> Keystream:
        """Return the keystream of one component, from its start."""
        return Keystream(self.component(label))


class MasterKey(Secret):
    """The key that all others of a site or a federation are derived from.

    Parameters
    ----------
    key : bytes
        32 secret bytes from a cryptographic generator, never from an integer seed.
    salt : bytes
        32 random bytes that are stored with the key.

    Raises
    ------
    KeyFileError
        If either is not 32 bytes.
    """

    __slots__ = ("_key", "key_id", "salt")

    def __init__(self, key: bytes, salt: bytes) -> None:
        self._key = require_key(key, "A master key")
        self.salt = require_key(salt, "The salt of a master key")
        self.key_id = key_id_of(hkdf_extract(self.salt, self._key), "medfl/master/v1|kid")

    def __repr__(self) -> str:
        """Show the key id only."""
        return f"<MasterKey {self.key_id}>"

    @classmethod
    def generate(cls) -> Self:
        """Return a new key from the operating system's generator."""
        return cls(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))

    def derive(self, context: KeyContext) -> ContextKey:
        """Return the key of one use: HKDF with `context.encoded()` as info.

        Raises
        ------
        ConfigError
            If the scope is a session or a sample and the context does not name it.
        """
        if (context.scope == "session" and not context.session) or (context.scope == "sample" and not context.sample):
            raise ConfigError(f"A key of scope {context.scope!r} needs a context that names the {context.scope}.")
        return ContextKey(hkdf_expand(hkdf_extract(self.salt, self._key), context.encoded(), KEY_BYTES))

    def secret_bytes(self) -> bytes:
        """Return the secret itself, 32 bytes: for writing a key file and for nothing else."""
        return self._key


def check_tag(key: ContextKey, transform_output: bytes) -> str:
    """Return a tag that tells whether somebody else has the same key and the same transform.

    Parameters
    ----------
    key : ContextKey
    transform_output : bytes
        What the transform makes of a fixed public tensor.

    Returns
    -------
    str
        64 hexadecimal digits: HMAC-SHA256 under the component key ``"check"``.
    """
    return hmac.digest(key.component("check"), transform_output, hashlib.sha256).hex()


def verify_check_tag(key: ContextKey, transform_output: bytes, tag: str) -> None:
    """Compare with a tag, in constant time.

    Raises
    ------
    KeyFileError
        If the key, or the transform, is not the one that the tag was made with.
    """
    if not hmac.compare_digest(check_tag(key, transform_output).encode(), tag.encode(errors="replace")):
        raise KeyFileError(f"The key must be the one that the tag was made with; key {key.key_id} is not.")


def decode_base64(text: object) -> bytes | None:
    """Return the bytes of strict base64, or None; no exception survives that would hold the text."""
    try:
        decoded = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None


def parse_json(content: bytes) -> dict[str, Any] | None:
    """Return a JSON object, or None; no exception survives that would hold the content."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(_LENGTH_BYTES, "big") + part


def _encoded(value: str | int | tuple[int, ...]) -> bytes:
    if isinstance(value, tuple):
        return b"".join(_prefixed(_encoded(size)) for size in value)
    return str(value).encode()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
