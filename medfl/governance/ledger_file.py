"""A ledger on disk: an SQLite database that only grows, and beside it a witness of how far it has come.

`NAME` is the database, `NAME.witness` holds the number and the hash of its last row. A row is committed first and the
witness follows before anybody is told, so the witness is behind by one row at most, and never ahead unless the database
was rolled back, truncated or swapped. Both belong on a local disk of the site.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Self

from medfl.governance.ledger_chain import START, Head, Row, broken, chained, row_after
from medfl.governance.ledger_errors import LedgerError, LedgerUnreachableError, distrusted
from medfl.results.atomic import locked, write_bytes
from medfl.results.canonical import canonical_json

_WITNESS = "medfl/ledger-witness/1"
_PATIENCE = 60.0  # seconds to wait for another program that holds the database
_PASSING = ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_LOCKED", "SQLITE_READONLY")
_SCHEMA = (
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY, content TEXT NOT NULL, previous TEXT NOT NULL, "
    "hash TEXT NOT NULL) STRICT",
    "CREATE TRIGGER never_changed BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END",
    "CREATE TRIGGER never_deleted BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END",
    "CREATE TRIGGER only_appended BEFORE INSERT ON events "
    "WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM events) "
    "BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END",
)


@dataclass
class Turn:
    """What one process sees and adds while no other may write.

    Attributes
    ----------
    rows : tuple of Row
        New since the caller looked last, checked.
    head : Head
        The present end.
    added : Row or None
    """

    rows: tuple[Row, ...]
    head: Head
    added: Row | None = None

    def append(self, content: str) -> Row:
        """Add one row, at most one in a turn; it is there for good when the turn has ended without an error."""
        if self.added is not None:
            raise LedgerError("a turn must add one row at most, found a second one.")
        self.added = row_after(self.head, content)
        return self.added


class LedgerFile:
    """An open database; of one process and one thread.

    Parameters
    ----------
    path : Path
        Must exist, with its witness.

    Raises
    ------
    LedgerError
        If either file is missing or unsound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for file in (path, witness_path(path)):
            if not file.is_file():
                raise distrusted(
                    f"A ledger must have its database and its witness; {file.name} is missing. If there never was a "
                    "ledger, make one with 'medfl ledger create'."
                )
        self._file = _identity(path)
        self._process = os.getpid()
        with in_words(path):
            self._database = _connect(path)
        try:
            with in_words(path), locked(path.parent):
                for stale in path.parent.glob(f".{escape(witness_path(path).name)}.*.part"):
                    stale.unlink(missing_ok=True)
            self.check_database()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the database."""
        self.close()

    @contextmanager
    def turn(self, since: Head) -> Iterator[Turn]:
        """Keep other writers waiting, read on, and write what was added, all or nothing.

        Parameters
        ----------
        since : Head
            Where the caller has read to.

        Raises
        ------
        LedgerError
            If the database is unsound, was replaced while open, or does not agree with `since` or with the witness.
        """
        if os.getpid() != self._process:
            raise LedgerError("a ledger must be opened by each process for itself; open it anew after a fork.")
        with in_words(self.path), locked(self.path.parent):
            if _identity(self.path) != self._file:
                raise LedgerError(f"The ledger {self.path.name} was replaced while it was open; open it anew.")
            self._database.execute("BEGIN IMMEDIATE")
            try:
                turn = self._read_on(since)
                yield turn
                if turn.added is not None:
                    row = turn.added
                    values = (row.sequence, row.content, row.previous, row.digest)
                    self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", values)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            if turn.added is not None:
                write_witness(self.path, turn.added.head)

    def check_database(self) -> None:
        """Check SQLite's own structures and that the triggers are as they were made.

        Raises
        ------
        LedgerError
            If they are not.
        """
        with in_words(self.path):
            found = self._database.execute("PRAGMA integrity_check").fetchone()[0]
            schema = {row[0] for row in self._database.execute("SELECT sql FROM sqlite_master")}
        if found != "ok" or schema != set(_SCHEMA):
            raise _unsound(self.path, "its tables and triggers are not what they were made as")

    def _read_on(self, since: Head) -> Turn:
        """Return the rows after `since`, compared with the witness, which is brought up to date."""
        witness = read_witness(self.path)
        rows = self._rows(max(since.sequence, 1))
        if since.sequence > 0:
            anchor = next(rows, None)
            if anchor is None or anchor.head != since:
                raise broken(since.sequence, "it was there before and is gone or changed")
        new = tuple(chained(rows, since))
        head = new[-1].head if new else since
        if witness.sequence > head.sequence:
            raise distrusted(
                f"The ledger {self.path.name} must end with row {witness.sequence} as its witness says; it ends with "
                f"row {head.sequence}, so it was rolled back, truncated or swapped."
            )
        last = next(self._rows(head.sequence), None)
        if witness != head and (last is None or witness != Head(last.sequence - 1, last.previous)):
            raise distrusted(
                f"The ledger {self.path.name} must go on from row {witness.sequence} of its witness by one row at "
                "most; it is another chain, or the witness is an old one."
            )
        if witness != head:
            write_witness(self.path, head)
        return Turn(new, head)

    def _rows(self, first: int) -> Iterator[Row]:
        """Yield rows from a number on as they are stored."""
        texts = ", ".join(f"CAST({column} AS BLOB)" for column in ("content", "previous", "hash"))
        found = self._database.execute(
            f"SELECT sequence, {texts} FROM events WHERE sequence >= ? ORDER BY sequence", (first,)
        )
        for sequence, *values in found:
            try:
                content, previous, digest = (bytes(value).decode() for value in values)
            except (TypeError, UnicodeDecodeError) as error:
                raise broken(sequence, "it is not text") from error
            yield Row(sequence, content, previous, digest)


def build(path: Path, contents: Iterable[str], rows: Iterable[Row] = ()) -> tuple[Path, Head]:
    """Write a whole database beside `path` under another name, from rows and then more contents.

    Returns
    -------
    part : Path
        The database, to be put in place with `install`.
    head : Head
        For its witness.

    Raises
    ------
    LedgerError
        If it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    head = START
    with in_words(path):
        for stale in _companions(part):
            stale.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(_connect(part)) as database:
            database.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                database.execute(statement)
            for row in _continued(rows, contents):
                values = (row.sequence, row.content, row.previous, row.digest)
                database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", values)
                head = row.head
            database.execute("COMMIT")
    return part, head


def install(part: Path, path: Path) -> None:
    """Put a built database in place for good; nothing may be there."""
    with in_words(path):
        os.replace(part, path)
        _sync_folder(path)


def set_aside(path: Path, suffix: str) -> None:
    """Rename a database and what SQLite keeps beside it, so that nothing is lost and nothing is mixed up."""
    with in_words(path):
        for file in _companions(path):
            if file.exists():
                os.replace(file, file.with_name(f"{file.name}.{suffix}"))
        _sync_folder(path)


def traces(path: Path) -> list[Path]:
    """Return what is there of a database, without its witness."""
    return [file for file in _companions(path) if file.exists()]


def witness_path(path: Path) -> Path:
    """Return where the witness of a ledger is."""
    return path.with_name(f"{path.name}.witness")


def read_witness(path: Path) -> Head:
    """Return how far a ledger must have come.

    Raises
    ------
    LedgerError
        If the witness is missing or unreadable.
    """
    try:
        content = witness_path(path).read_bytes()
        facts = json.loads(content)
        head = Head(int(facts["sequence"]), str(facts["hash"]))
        if content != _witness(head):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        name = witness_path(path).name
        raise distrusted(f"The witness {name} must be as it was written; it is missing or damaged.") from error
    return head


def write_witness(path: Path, head: Head) -> None:
    """Say how far a ledger has come, for good before this returns."""
    write_bytes(witness_path(path), _witness(head))


def _witness(head: Head) -> bytes:
    return canonical_json({"schema": _WITNESS, "sequence": head.sequence, "hash": head.digest})


def _continued(rows: Iterable[Row], contents: Iterable[str]) -> Iterator[Row]:
    """Yield rows, then one for each content."""
    head = START
    for row in chained(rows):
        head = row.head
        yield row
    for content in contents:
        row = row_after(head, content)
        head = row.head
        yield row


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database that exists; every commit reaches the disk before it returns."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE, isolation_level=None)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "trusted_schema=OFF"):
            database.execute(f"PRAGMA {pragma}")
    except BaseException:
        database.close()
        raise
    return database


def _companions(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file a path names."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return (facts.st_dev, facts.st_ino)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unsound(path: Path, reason: str) -> LedgerError:
    return distrusted(f"The ledger {path.name} must be a sound database of medfl; {reason}.")


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into an error of medfl."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith(_PASSING):
            raise _unreachable(path, str(error)) from error
        raise _unsound(path, f"SQLite says '{error}'") from error
    except sqlite3.ProgrammingError as error:
        raise LedgerError("a ledger must be used by the thread that opened it, and not after it is closed.") from error
    except sqlite3.Error as error:
        raise _unsound(path, f"SQLite says '{error}'") from error
    except OSError as error:
        raise _unreachable(path, os.strerror(error.errno or 0).lower()) from error


def _unreachable(path: Path, reason: str) -> LedgerUnreachableError:
    return LedgerUnreachableError(
        f"The ledger {path.name} must be readable and writable, and no other program may hold it; found: {reason}. "
        "Nothing may be released until it is."
    )
