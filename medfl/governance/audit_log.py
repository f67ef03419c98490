"""What a site did and let out: lines that each hold the hash of the one before.

`audit.jsonl` only grows. A line is written whole, under a lock that all programs of the site take, and reaches the disk
before `append` returns; where it cannot be written nothing may leave. A kill or a power cut can leave an unfinished
last line. It stays where it is: the next `append` ends it with a line break and first writes an entry "log.recovered"
that holds the SHA-256 of the unfinished bytes, so that `verify` takes exactly these bytes for a torn line and nothing
else. Where that entry is cut off in its turn, the next one covers both. A last line that has its line break and cannot
be read was changed by somebody: then nothing can be appended until that was looked into.

The fields are closed, and their values are numbers, hashes, words of a list and the names of staff: no text of an
exception and no path can get in. There is no secret in the chain: whoever can write the file can write another one.
A head that is kept elsewhere shows that as well, and it alone shows that the last lines were removed.
"""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from medfl.errors import AuditLogError
from medfl.governance.audit_entry import REASONS, UNLISTED, Entry, Operation, Verdict
from medfl.governance.ledger_chain import START, Head, Row, row_after
from medfl.results.canonical import canonical_json

_LONGEST_LINE = 4096
_MOST_PIECES = 8


@dataclass(frozen=True)
class Line:
    """An entry with its place in the chain."""

    entry: Entry
    row: Row


@dataclass(frozen=True)
class BrokenLine:
    """The first line that is not as it was written: its number in the file, from 1, and why."""

    number: int
    reason: str


def _now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """A site's audit log; any number of programs may use it at once.

    Parameters
    ----------
    path : Path
        Its folder must exist; the file is made with the first entry, for its owner only.
    clock : callable
        Returns the time, with a time zone.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = _now) -> None:
        self.path = path
        self._clock = clock

    def append(
        self,
        operation: Operation,
        *,
        who: str,
        plan_sha256: str = "",
        run_id: str = "",
        round: int = 0,
        bytes_out: int = 0,
        epsilon: float | None = None,
        verdict: Verdict = "",
        reason: str = "",
        digest: str = "",
    ) -> Head:
        """Add one entry; it is on the disk when this returns.

        Parameters
        ----------
        operation, who, plan_sha256, run_id, round, bytes_out, epsilon, verdict, reason, digest
            See `Entry`. A reason that is not in `REASONS` becomes `UNLISTED`.

        Returns
        -------
        Head
            Where the log ends now.

        Raises
        ------
        AuditLogError
            If the entry breaks the schema, or the file cannot be written or has a broken end.
        """
        try:
            entry = Entry(
                when=f"{self._clock().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                operation=operation,
                who=who,
                plan_sha256=plan_sha256,
                run_id=run_id,
                round=round,
                bytes_out=bytes_out,
                epsilon="infinite" if epsilon is not None and math.isinf(epsilon) else epsilon,
                verdict=verdict,
                reason=reason if reason in REASONS or not reason else UNLISTED,
                digest=digest,
            )
        except ValidationError as error:
            places = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
            raise AuditLogError(
                f"An entry of the audit log must follow its schema; these fields do not: {places}."
            ) from None
        with self._opened() as file:
            end = _End.of(file)
            added = b""
            head = end.head
            if end.torn:
                if end.is_whole:
                    added = b"\n"
                else:
                    row = row_after(head, _content(_recovered(entry.when, end.torn)))
                    added, head = b"\n" + _line(row), row.head
            row = row_after(head, _content(entry))
            _write_whole(file, added + _line(row))
        return row.head

    def lines(self) -> Iterator[Line]:
        """Yield the lines that can be read, in order, torn ones left out; whether they are sound is for `verify`."""
        for text in self._texts():
            found = _parsed(text)
            if found is not None:
                yield found

    def entries(self) -> tuple[Entry, ...]:
        """Return the entries that can be read, in order."""
        return tuple(line.entry for line in self.lines())

    def head(self) -> Head:
        """Return where the log ends; to be written down elsewhere."""
        last = START
        for line in self.lines():
            last = line.row.head
        return last

    def verify(self, head: Head | None = None) -> BrokenLine | None:
        """Check every line.

        Parameters
        ----------
        head : Head or None
            Noted earlier; the log must go through it.

        Returns
        -------
        BrokenLine or None
            The first line that is not as it was written; None if all are.

        Raises
        ------
        AuditLogError
            If the file cannot be read.
        """
        last, number = START, 0
        torn: list[bytes] = []
        reached = head is None or head == START
        for number, text in enumerate(self._texts(), start=1):
            line = _parsed(text)
            if line is None:
                torn.append(text)
                continue
            if torn:
                if line.entry.operation != "log.recovered" or line.entry.digest != _digest(torn):
                    return BrokenLine(number - len(torn), "it cannot be read")
                torn = []
            reason = _fault(line.row, last)
            if reason:
                return BrokenLine(number, reason)
            last = line.row.head
            if head is not None and last.sequence == head.sequence:
                if last != head:
                    return BrokenLine(number, "it is another one than the head that was noted")
                reached = True
        if torn:
            return BrokenLine(number - len(torn) + 1, self._ending())
        if not reached:
            return BrokenLine(number + 1, "it is missing: the log ends before the head that was noted")
        return None

    # --- inside ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file for one writer at a time; a kill lets go of it."""
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield handle
            finally:
                os.close(handle)
        except OSError as error:
            raise AuditLogError(
                f"The audit log must be writable; it is not ({error.strerror}). Nothing leaves until it is."
            ) from error

    def _ending(self) -> str:
        """Say what the lines at the end are that cannot be read: a write that was cut off leaves no line break."""
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_cut = file.read(1) != b"\n"
        return "it is unfinished; the next entry will mark it as such" if is_cut else "it cannot be read"

    def _texts(self) -> Iterator[bytes]:
        """Yield the file's lines without their ends."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH)
                content = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise AuditLogError(f"The audit log must be readable; it is not ({error.strerror}).") from error
        yield from content.removesuffix(b"\n").split(b"\n") if content else ()


@dataclass(frozen=True)
class _End:
    """How a file ends: its last sound line, what comes after it without a line break, and whether that is whole."""

    head: Head
    torn: tuple[bytes, ...]
    is_whole: bool = False

    @classmethod
    def of(cls, file: int) -> "_End":
        size = os.fstat(file).st_size
        tail = os.pread(file, min(size, 4 * _LONGEST_LINE), max(0, size - 4 * _LONGEST_LINE))
        is_start = size <= 4 * _LONGEST_LINE
        *lines, last = tail.split(b"\n")
        if not last:
            return cls(_last_head(lines, is_start=is_start), ())
        pieces = [last]
        while lines and _parsed(lines[-1]) is None and len(pieces) < _MOST_PIECES:
            pieces.insert(0, lines.pop())
        before = _last_head(lines, is_start=is_start)
        line = _parsed(last) if len(pieces) == 1 else None
        if line is not None and not _fault(line.row, before):
            return cls(line.row.head, (last,), is_whole=True)
        return cls(before, tuple(pieces))


def _last_head(lines: list[bytes], *, is_start: bool) -> Head:
    """Return the head of the last line, which must be sound in itself; of the start where there is none."""
    if not lines and is_start:
        return START
    found = _parsed(lines[-1]) if lines else None
    if found is None:
        raise AuditLogError("The audit log must end with a whole line; it does not. See 'medfl log verify'.")
    before = Head(found.row.sequence - 1, found.row.previous)
    if row_after(before, found.row.content) != found.row:
        raise AuditLogError(
            "The last line of the audit log must be as it was written; it is not. See 'medfl log verify'."
        )
    return found.row.head


def _recovered(when: str, torn: Sequence[bytes]) -> Entry:
    return Entry(
        when=when, operation="log.recovered", who="medfl", verdict="ok", reason="torn_line", digest=_digest(torn)
    )


def _digest(torn: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\n".join(torn)).hexdigest()


def _content(entry: Entry) -> str:
    return canonical_json(entry.model_dump(mode="json")).decode()


def _line(row: Row) -> bytes:
    text = (
        f'{{"digest":"{row.digest}","entry":{row.content},"previous":"{row.previous}","sequence":{row.sequence}}}\n'
    ).encode()
    if len(text) > _LONGEST_LINE:
        raise AuditLogError(f"A line of the audit log must have at most {_LONGEST_LINE} bytes.")
    return text


def _parsed(text: bytes) -> Line | None:
    """Return a line that has the schema, byte for byte as it would be written; None for any other."""
    try:
        found = json.loads(text)
        entry = Entry.model_validate(found["entry"])
        row = Row(int(found["sequence"]), _content(entry), str(found["previous"]), str(found["digest"]))
        return Line(entry, row) if _line(row) == text + b"\n" else None
    except (ValueError, KeyError, TypeError, RecursionError, AuditLogError):
        return None


def _fault(row: Row, last: Head) -> str:
    if row.sequence != last.sequence + 1:
        return f"it is missing or out of place, the next one found is number {row.sequence}"
    if row.previous != last.digest:
        return "it does not hold the hash of the line before"
    if row != row_after(last, row.content):
        return "its content is not what was hashed when it was written"
    return ""


def _write_whole(file: int, text: bytes) -> None:
    """Write and reach the disk, or leave the file as it was."""
    size = os.fstat(file).st_size
    try:
        written = os.write(file, text)
        if written != len(text):
            raise OSError(28, "No space left on device")
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise
