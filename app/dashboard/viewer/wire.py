"""The one message that carries an image to the browser: a JSON header and raw voxels, without base64.

Layout: four bytes with the header's length (little-endian), the header as UTF-8 JSON, padding to a multiple of
eight, then the parts one after another, each padded in the same way. The header names offset and length of every
part, counted from the first part. Masks travel deflated (zlib), since they are mostly zeros.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 8
#: numpy's type and the name that the browser's code knows.
WIRE_TYPES = {"|u1": "u8", "<u2": "u16", "<i2": "i16", "<f4": "f32"}


@dataclass(frozen=True)
class Body:
    """The voxels of a message, with the description that belongs into its header.

    Attributes
    ----------
    parts : mapping of name to {offset, length, type, deflated}
    content : bytes
        All parts, padded.
    digest : str
        SHA-256 of `content` and of how it is divided, in hexadecimal: the browser keeps what it has when this stays.
    """

    parts: Mapping[str, Mapping[str, Any]]
    content: bytes
    digest: str


def body_of(image: NDArray[np.generic], masks: Mapping[str, NDArray[np.uint8]]) -> Body:
    """Pack an image and its masks.

    Parameters
    ----------
    image : C-contiguous ndarray
        Of one of the `WIRE_TYPES`.
    masks : mapping of name to uint8 ndarray
    """
    parts: dict[str, dict[str, Any]] = {}
    pieces: list[bytes] = []
    offset = 0
    packed = {"image": image.tobytes()} | {name: zlib.compress(mask.tobytes(), 1) for name, mask in masks.items()}
    for name, content in packed.items():
        kind = WIRE_TYPES[image.dtype.str] if name == "image" else "u8"
        parts[name] = {"offset": offset, "length": len(content), "type": kind, "deflated": name != "image"}
        pieces += [content, bytes(-len(content) % _ALIGNMENT)]
        offset += len(content) + len(pieces[-1])
    joined = b"".join(pieces)
    return Body(parts, joined, sha256(json.dumps(parts).encode() + joined).hexdigest())


def message_of(header: Mapping[str, Any], body: Body) -> bytes:
    """Return the whole message.

    Parameters
    ----------
    header : mapping
        Values for JSON; ``parts`` and ``digest`` are added.
    body : Body
    """
    described = dict(header) | {"parts": dict(body.parts), "digest": body.digest}
    text = json.dumps(described, ensure_ascii=True, allow_nan=False).encode()
    start = len(text).to_bytes(4, "little") + text
    return b"".join((start, bytes(-len(start) % _ALIGNMENT), body.content))
