"""One byte sequence for one value, so that hashes and signatures mean something."""

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from medfl.errors import ConfigError


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Return RFC 8785 canonical JSON.

    Parameters
    ----------
    value : mapping
        JSON values only; infinities and NaN have no canonical form.

    Raises
    ------
    ConfigError
        If the value has no canonical form.
    """
    try:
        return rfc8785.dumps(dict(value))
    except rfc8785.CanonicalizationError as error:
        raise ConfigError(f"The value must be plain, finite JSON to be hashed: {error}.") from error


def sha256(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
