"""Rows that each hold the hash of the one before, so that nothing can be changed, dropped or moved unseen.

There is no secret in the chain: whoever can write both the database and its witness can write another history. It
shows damage, mistakes and restored backups, not a determined administrator; a head kept elsewhere shows him as well.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medfl.governance.ledger_errors import LedgerError, distrusted


@dataclass(frozen=True)
class Head:
    """How far a ledger has come.

    Attributes
    ----------
    sequence : int
        Of the last row; 0 before the first.
    digest : str
        Its SHA-256, 64 hexadecimal digits.
    """

    sequence: int
    digest: str

    def __str__(self) -> str:
        """Return ``SEQUENCE:DIGEST``, to be written down."""
        return f"{self.sequence}:{self.digest}"


@dataclass(frozen=True)
class Row:
    """One row as it is stored.

    Attributes
    ----------
    sequence : int
        1, 2, 3, ... This alone says what came first; times are information.
    content : str
        Canonical JSON (RFC 8785).
    previous, digest : str
        SHA-256 of the row before, and of this one: of the canonical JSON of its `sequence`, `content` and `previous`.
    """

    sequence: int
    content: str
    previous: str
    digest: str

    @property
    def head(self) -> Head:
        """Where the chain ends with this row."""
        return Head(self.sequence, self.digest)


START = Head(0, "0" * 64)
"""Before the first row."""


def row_after(head: Head, content: str) -> Row:
    """Return the row that comes after a head.

    Parameters
    ----------
    head : Head
    content : str
        Canonical JSON.
    """
    sequence = head.sequence + 1
    return Row(sequence, content, head.digest, _digest(sequence, content, head.digest))


def chained(rows: Iterable[Row], head: Head = START) -> Iterator[Row]:
    """Yield rows that follow a head, each after it was checked.

    Raises
    ------
    LedgerError
        If a row does not; it is named by its number.
    """
    for row in rows:
        if row.sequence != head.sequence + 1:
            raise broken(head.sequence + 1, f"it is missing or out of place, the next one found is {row.sequence}")
        if row.previous != head.digest:
            raise broken(row.sequence, "it does not hold the hash of the row before")
        if row.digest != _digest(row.sequence, row.content, row.previous):
            raise broken(row.sequence, "its content is not what was hashed when it was written")
        head = row.head
        yield row


def broken(sequence: int, reason: str) -> LedgerError:
    """Return the error that names the first row that is not as it was written."""
    return distrusted(f"Every row of a ledger must be as it was written; row {sequence} is not: {reason}.")


def _digest(sequence: int, content: str, previous: str) -> str:
    """Hash the canonical JSON of a row; as its content is canonical already, the text need only be put together."""
    text = f'{{"content":{content},"previous":"{previous}","sequence":{sequence}}}'
    return hashlib.sha256(text.encode()).hexdigest()
