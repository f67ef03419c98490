"""Frames between a site's executor and its worker: a JSON head and byte strings, with a limit on every length."""

import json
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medfl.errors import FederationError

_START = struct.Struct(">4sIB")
_LENGTH = struct.Struct(">Q")
_MARK = b"MFL1"
_LONGEST_HEAD = 4 * 1024 * 1024
_MOST_PARTS = 4
_PIECE = 1 << 20
_LOOK_S = 0.2

Watch = Callable[[], None]
"""Called several times a second while a frame is awaited; raises to stop waiting."""


class FrameError(FederationError):
    """The other side is gone, too slow, or sent something that is no frame.

    Parameters
    ----------
    reason : str
        "worker_died", "worker_timeout" or "bytes".
    message : str
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Frame:
    """One question or answer.

    Attributes
    ----------
    head : dict
        Plain JSON values.
    parts : tuple of bytes
        At most four.
    """

    head: dict[str, Any]
    parts: tuple[bytes, ...] = ()


def send_frame(link: socket.socket, frame: Frame, deadline: float | None = None) -> None:
    """Send a frame.

    Parameters
    ----------
    link : socket
    frame : Frame
    deadline : float or None
        On the monotonic clock.

    Raises
    ------
    FrameError
        If the other side is gone or does not take it in time.
    """
    head = json.dumps(frame.head).encode("ascii")
    lengths = b"".join(_LENGTH.pack(len(part)) for part in frame.parts)
    link.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
    try:
        for piece in (_START.pack(_MARK, len(head), len(frame.parts)) + lengths + head, *frame.parts):
            link.sendall(piece)
    except TimeoutError:
        raise FrameError("worker_timeout", "The other side must read what it is sent; it did not in time.") from None
    except OSError:
        raise FrameError("worker_died", "The other side must be there; it is gone.") from None


def receive_frame(
    link: socket.socket, *, most_bytes: int, deadline: float | None = None, watch: Watch | None = None
) -> Frame:
    """Wait for a frame.

    Parameters
    ----------
    link : socket
    most_bytes : int
        Most bytes of all parts together; more is refused before any of it is read.
    deadline : float or None
        On the monotonic clock.
    watch : callable or None

    Raises
    ------
    FrameError
        If the other side is gone or too slow, or what it sends is not a frame or too long.
    """
    mark, head_length, n_parts = _START.unpack(_received(link, _START.size, deadline, watch))
    if mark != _MARK or head_length > _LONGEST_HEAD or n_parts > _MOST_PARTS:
        raise FrameError("bytes", "The other side must send frames; it sent something else.")
    packed = _received(link, _LENGTH.size * n_parts, deadline, watch)
    lengths = [length for (length,) in _LENGTH.iter_unpack(packed)]
    if sum(lengths) > most_bytes:
        raise FrameError("bytes", f"A frame must hold at most {most_bytes} bytes; more were announced.")
    try:
        head = json.loads(_received(link, head_length, deadline, watch))
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise FrameError("bytes", "A frame must begin with a JSON object; it does not.")
    return Frame(head, _parts(link, lengths, deadline, watch))


def _parts(
    link: socket.socket, lengths: Sequence[int], deadline: float | None, watch: Watch | None
) -> tuple[bytes, ...]:
    return tuple(bytes(_received(link, length, deadline, watch)) for length in lengths)


def _received(link: socket.socket, length: int, deadline: float | None, watch: Watch | None) -> bytearray:
    content = bytearray()
    while len(content) < length:
        if watch is not None:
            watch()
        left = _LOOK_S if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise FrameError("worker_timeout", "The other side must answer in time; it did not.")
        if not select.select([link], [], [], min(_LOOK_S, left))[0]:
            continue
        try:
            piece = link.recv(min(_PIECE, length - len(content)))
        except OSError:
            piece = b""
        if not piece:
            raise FrameError("worker_died", "The other side must be there; it is gone.")
        content += piece
    return content
