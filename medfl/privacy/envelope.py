"""Releases in sealed envelopes: whoever relays or stores them reads nothing and changes nothing unnoticed.

An envelope is AES-256-GCM over a safetensors payload. Its metadata are in clear and authenticated with it. The key is
drawn for envelopes alone and wrapped for the receiver; it has nothing to do with the key of a transform. Layout::

    4 bytes   length of the metadata, big-endian
    ...       metadata, canonical JSON (RFC 8785): the additional authenticated data
    12 bytes  random nonce
    ...       ciphertext and tag

Names, shapes and types of the arrays are part of the metadata, so a relay sees these and the sizes.
"""

import os
import secrets
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import safetensors.numpy
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray
from safetensors import SafetensorError

from medfl.errors import ConfigError, EnvelopeError
from medfl.privacy.key_wrapping import Identity, WrapHeader, unwrap, wrap
from medfl.privacy.keys import key_id_of, parse_json
from medfl.privacy.keystream import KEY_BYTES, Secret, require_key
from medfl.results.canonical import canonical_json

Fact = str | int | list[int]
_VERSION = "medfl/envelope/1"
_LENGTH_BYTES = 4
_NONCE_BYTES = 12
_KINDS = "biuf"
_CHANGED = "An envelope must be whole, unchanged and sealed with the key at hand; this one is not. Ask for it again."


class EnvelopeKey(Secret):
    """The key of envelopes between two parties; good for up to 2^32 of them.

    Parameters
    ----------
    key : bytes
        32 bytes; normally from `generate` or `unwrap`.
    """

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        self._key = require_key(key, "An envelope key")
        self.key_id = key_id_of(self._key, f"{_VERSION}|kid")

    def __repr__(self) -> str:
        """Show the key id only."""
        return f"<EnvelopeKey {self.key_id}>"

    @classmethod
    def generate(cls) -> Self:
        """Return a new key from the operating system's generator."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def unwrap(cls, wrapped: bytes, identity: Identity, info: str) -> Self:
        """Return the key that was wrapped for `identity` and for the use that `info` names.

        Raises
        ------
        EnvelopeError
            If it is for somebody else or for another use, or anything was changed.
        """
        header, content = unwrap(wrapped.decode(errors="replace"), identity)
        if header.purpose != _purpose(info) or len(content) != KEY_BYTES:
            raise EnvelopeError("A wrapped envelope key must be for this use; it is for another one. Ask for its like.")
        key = cls(content)
        if header.key_id != key.key_id:
            raise EnvelopeError("The header of a wrapped envelope key must name it; it does not. Ask for a new one.")
        return key

    def wrap(self, recipient: str, info: str, epoch: int = 0) -> bytes:
        """Wrap the key for one public key (``"medfl-x25519 BASE64"``) and one use.

        Raises
        ------
        KeyFileError
            If the recipient's key is no public key.
        """
        return wrap(self._key, recipient, WrapHeader(_purpose(info), self.key_id, epoch)).encode()

    def encrypt(self, payload: bytes, metadata: bytes) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, payload, metadata)

    def decrypt(self, sealed: bytes, metadata: bytes) -> bytes:
        """Return the payload of `encrypt`.

        Raises
        ------
        EnvelopeError
            If anything was changed.
        """
        try:
            return AESGCM(self._key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], metadata)
        except (InvalidTag, ValueError):
            raise EnvelopeError(_CHANGED) from None


def seal(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Fact], key: EnvelopeKey) -> bytes:
    """Put arrays into an envelope.

    Parameters
    ----------
    arrays : mapping of str to array
        Numbers or booleans, of any shape and memory layout.
    metadata : mapping of str to str, int or list of int
        In clear and authenticated; for example encoder, settings, key id and epoch of the transform, study.
    key : EnvelopeKey

    Raises
    ------
    ConfigError
        If the arrays hold something else than numbers, or the metadata something else than these types.
    """
    wrong = [str(name) for name, value in metadata.items() if not _is_fact(value)]
    if wrong:
        raise ConfigError(f"Metadata of an envelope must be text, integers or lists of integers: {', '.join(wrong)}.")
    if any(array.dtype.kind not in _KINDS for array in arrays.values()):
        raise ConfigError("Arrays in an envelope must hold numbers or booleans; one does not.")
    # safetensors writes the memory of an array whatever its strides say, so every array is laid out in rows first
    rows = {name: np.array(array, order="C") for name, array in arrays.items()}
    try:
        payload = safetensors.numpy.save(rows)
    except SafetensorError as error:
        raise ConfigError("Arrays in an envelope must be of a type that safetensors knows; one is not.") from error
    facts = {"version": _VERSION, "envelope_key": key.key_id, "arrays": _layout(rows), "about": dict(metadata)}
    clear = canonical_json(facts)
    return len(clear).to_bytes(_LENGTH_BYTES, "big") + clear + key.encrypt(payload, clear)


def open_envelope(
    data: bytes, key: EnvelopeKey, expected: Mapping[str, Fact]
) -> tuple[dict[str, NDArray[Any]], dict[str, Fact]]:
    """Take arrays and metadata out of an envelope.

    Parameters
    ----------
    data : bytes
        From `seal`; anything at all is safe to pass.
    key : EnvelopeKey
    expected : mapping
        Metadata that must be there with these values; others may be there, too.

    Returns
    -------
    dict of str to array, dict
        The arrays and all metadata.

    Raises
    ------
    EnvelopeError
        If anything was changed, the key is another one, or the metadata are not the expected ones.
    """
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    if len(data) < start + _NONCE_BYTES:
        raise EnvelopeError(_CHANGED)
    clear = data[_LENGTH_BYTES:start]
    payload = key.decrypt(data[start:], clear)
    facts = parse_json(clear) or {}
    about = facts.get("about")
    if facts.get("version") != _VERSION or facts.get("envelope_key") != key.key_id or not isinstance(about, dict):
        raise EnvelopeError(f"An envelope must have metadata of version {_VERSION}; this one has not.")
    different = [name for name, value in expected.items() if name not in about or not _is_same(about[name], value)]
    if different:
        raise EnvelopeError(f"An envelope must say what is expected; it differs in: {', '.join(sorted(different))}.")
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(payload)
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise EnvelopeError("The payload of an envelope must be safetensors; it is not.") from None
    if _layout(arrays) != facts.get("arrays") or not all(map(_is_fact, about.values())):
        raise EnvelopeError("The metadata of an envelope must tell what is in it; they do not.")
    return arrays, about


def _layout(arrays: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, str | list[int]]]:
    return {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}


def _is_fact(value: object) -> bool:
    if isinstance(value, list):
        return all(type(item) is int for item in value)
    return type(value) in (str, int)


def _is_same(found: object, expected: Fact) -> bool:
    return type(found) is type(expected) and found == expected


def _purpose(info: str) -> str:
    return f"envelope {info}"
