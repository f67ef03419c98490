"""Looking for keys where no key may be: in checkpoints, logs, reports and every other file of a run folder.

A key is searched as raw bytes, as hexadecimal digits, as base64 of either alphabet at any alignment, and as a list of
decimal numbers; blanks, line breaks, zero bytes (UTF-16) and the signs between hexadecimal digits do not hide it. Eight
bytes in a row are enough for a finding, at four places of a 32-byte key, so any 16 of its bytes are found. What
is compressed or encrypted is not opened. Nothing here returns, prints or raises a secret.
"""

import base64
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from medfl.errors import AuditError, ConfigError
from medfl.results.attack import AttackResult, Control

BLOCK_BYTES = 1 << 20
_SHORTEST, _PIECE, _DISTINCT = 16, 8, 4
_BLANKS = b" \t\r\n\0"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WITHHELD = "(a file whose name holds a key)"


@dataclass(frozen=True, repr=False)
class _Search:
    """One way to write bytes: how a block is made comparable, and what is then looked for in it."""

    normalize: Callable[[bytes], bytes]
    patterns: frozenset[bytes]


def scan_for_keys(folder: Path, secrets: Sequence[bytes], *, block_bytes: int = BLOCK_BYTES) -> tuple[str, ...]:
    """Name the files in which a key, or a piece of it, can be read.

    Parameters
    ----------
    folder : Path
        Searched with all folders in it; symbolic links are not followed.
    secrets : sequence of bytes
        Master keys and keys derived from them, 16 bytes or more each.
    block_bytes : int
        Bytes in memory at a time, > 0; findings do not depend on it.

    Returns
    -------
    tuple of str
        Relative to the folder, with "/", sorted. A file whose own name holds a key is named by its folder only.

    Raises
    ------
    ConfigError
        If there is no secret, one is too short or does not look random, or `block_bytes` is not positive.
    AuditError
        If the folder, or a file in it, cannot be read: what was not searched must not pass.
    """
    return _scan(folder, _searches(secrets), block_bytes)[0]


def evaluate_key_hygiene(
    folder: Path, secrets: Sequence[bytes]
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    """Count the files that give a key away, and show that the search would have found one.

    Parameters and errors are those of `scan_for_keys`.

    Returns
    -------
    results : tuple of AttackResult
        One, of metric "findings". `subjects`, `positives` and `negatives` count files here: searched, with and without
        a key. Names are not in it, for a report travels further than a folder; `scan_for_keys` gives them.
    controls : tuple of Control
        "positive": share of planted keys that are found, every secret in every way of writing, each across the border
        of two blocks. "null": findings in the same bytes without a key.
    """
    began = time.perf_counter()
    searches = _searches(secrets)
    found, files = _scan(folder, searches, BLOCK_BYTES)
    result = AttackResult(
        family="key hygiene",
        name="file scan",
        knowledge="naive",
        metric="findings",
        value=len(found),
        ci_low=len(found),
        ci_high=len(found),
        chance=0.0,
        baseline="a folder without keys",
        subjects=max(files, 1),
        positives=len(found),
        negatives=files - len(found),
        attacker_subjects=0,
        budget=f"{files} files, {len(secrets)} keys",
        seconds=time.perf_counter() - began,
    )
    border = 1024
    filler = hashlib.shake_128(b"medfl key hygiene").digest(2 * border)
    hits = [
        _holds(BytesIO(_planted(filler, text, border)), searches, border)
        for secret in secrets
        for text in written(secret).values()
    ]
    share, false_alarms = sum(hits) / len(hits), float(_holds(BytesIO(filler), searches, border))
    positive = Control(
        family="key hygiene",
        kind="positive",
        name="planted keys",
        metric="share found",
        value=share,
        ci_low=share,
        ci_high=share,
        expected="every planted key is found",
        passed=all(hits),
    )
    null = Control(
        family="key hygiene",
        kind="null",
        name="no key planted",
        metric="findings",
        value=false_alarms,
        ci_low=false_alarms,
        ci_high=false_alarms,
        expected="nothing is found where no key was planted",
        passed=not false_alarms,
    )
    return (result,), (positive, null)


def written(secret: bytes) -> dict[str, bytes]:
    """Return the ways of writing that are searched for, by name; the values are as secret as the key itself."""
    return {
        "raw": secret,
        "hex": secret.hex().encode(),
        "upper hex": secret.hex().upper().encode(),
        "separated hex": secret.hex(":").encode(),
        "base64": base64.b64encode(secret),
        "url-safe base64": base64.urlsafe_b64encode(secret),
        "wrapped base64": base64.encodebytes(b"?" + 2 * secret),
        "decimal": str(list(secret)).encode(),
        "utf-16": secret.hex().encode("utf-16-le"),
        "fragment": secret[len(secret) - _SHORTEST :],
    }


def _planted(filler: bytes, text: bytes, border: int) -> bytes:
    start = border - len(text) // 2
    return filler[:start] + text + filler[start:]


def _scan(folder: Path, searches: Sequence[_Search], block_bytes: int) -> tuple[tuple[str, ...], int]:
    """Return the names of files with a key in them, and how many files there are."""
    if block_bytes < 1:
        raise ConfigError(f"block_bytes must be at least 1, got {block_bytes}.")
    found, files = set(), 0
    try:
        for path in _regular_files(folder):
            files += 1
            relative = path.relative_to(folder)
            if _holds(BytesIO(os.fsencode(relative)), searches, block_bytes):
                found.add(_visible(relative, searches) + f"#{files}")
                continue
            with path.open("rb") as stream:
                if _holds(stream, searches, block_bytes):
                    found.add(relative.as_posix())
    except OSError:
        readable = False
    else:
        readable = True
    if not readable:
        raise AuditError("Every file of the searched folder must be readable, found one that is not. Check its rights.")
    return tuple(sorted(found)), files


def _visible(relative: Path, searches: Sequence[_Search]) -> str:
    """Return the part of a path that may be shown: the folders above the first that makes it hold a key."""
    shown = Path()
    for part in relative.parts[:-1]:
        if _holds(BytesIO(os.fsencode(shown / part)), searches, BLOCK_BYTES):
            break
        shown /= part
    return (shown / _WITHHELD).as_posix()


def _regular_files(folder: Path) -> Iterator[Path]:
    """Yield files in a fixed order; what is neither a file nor a folder holds nothing of its own."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        mode = (folder / name).lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _regular_files(folder / name)
        elif stat.S_ISREG(mode):
            yield folder / name


def _holds(stream: BinaryIO, searches: Sequence[_Search], block_bytes: int) -> bool:
    """Search block by block; the end of each block, after it was made comparable, is searched again with the next."""
    overlap = max(len(pattern) for search in searches for pattern in search.patterns) - 1
    tails = [b""] * len(searches)
    while block := stream.read(block_bytes):
        for number, search in enumerate(searches):
            text = tails[number] + search.normalize(block)
            if any(pattern in text for pattern in search.patterns):
                return True
            tails[number] = text[-overlap:]
    return False


def _searches(secrets: Sequence[bytes]) -> tuple[_Search, ...]:
    if not secrets:
        raise ConfigError("A search for keys needs at least one key, found none.")
    pieces = []
    for secret in secrets:
        if len(secret) < _SHORTEST:
            raise ConfigError(f"Keys to look for must have at least {_SHORTEST} bytes, found one of {len(secret)}.")
        own = [secret[start : start + _PIECE] for start in range(0, len(secret) - _PIECE + 1, _PIECE)]
        if any(len(set(piece)) < _DISTINCT for piece in own):
            raise ConfigError("Keys to look for must be random bytes, found one that repeats itself.")
        pieces += own
    return (
        _Search(bytes, frozenset(pieces)),
        _Search(_hexadecimal, frozenset(piece.hex().encode() for piece in pieces)),
        _Search(_base64, frozenset(_inside_base64(piece, shift) for piece in pieces for shift in range(3))),
        _Search(_list_of_numbers, frozenset(b",".join(b"%d" % one for one in piece) for piece in pieces)),
    )


def _hexadecimal(block: bytes) -> bytes:
    return block.lower().translate(None, _BLANKS + b"\\x:-,")


def _base64(block: bytes) -> bytes:
    return block.translate(_URL_SAFE, _BLANKS)


def _list_of_numbers(block: bytes) -> bytes:
    return block.translate(None, _BLANKS)


def _inside_base64(piece: bytes, shift: int) -> bytes:
    """Return the characters that depend on `piece` alone where `shift` bytes (mod 3) stand before it."""
    text = base64.b64encode(bytes(shift) + piece)
    return text[(8 * shift + 5) // 6 : 8 * (shift + len(piece)) // 6]
