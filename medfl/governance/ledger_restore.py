"""A lost or damaged ledger, taken up again: exactly, from a copy that its witness confirms, or fully charged."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medfl.governance.ledger import Ledger
from medfl.governance.ledger_books import Books, check_charges, higher
from medfl.governance.ledger_chain import Head, Row, chained
from medfl.governance.ledger_clock import Clock, stamp, utc_now
from medfl.governance.ledger_errors import LedgerError, LedgerUnreachableError
from medfl.governance.ledger_events import (
    Account,
    Budget,
    Charged,
    Content,
    Created,
    Entry,
    Restored,
    read,
    require_line,
    written,
)
from medfl.governance.ledger_file import (
    build,
    in_words,
    install,
    read_witness,
    set_aside,
    traces,
    witness_path,
    write_witness,
)
from medfl.results.atomic import locked

COPY_SCHEMA = "medfl/ledger-copy/1"


def exported(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return a copy of a ledger as JSON values; the hash of its last row vouches for every one.

    Parameters
    ----------
    entries : sequence of Entry
        All of them.
    """
    rows = [vars(entry.row) for entry in entries]
    return {"schema": COPY_SCHEMA, "head": str(entries[-1].row.head), "rows": rows}


def imported(copy: bytes) -> tuple[Row, ...]:
    """Return the rows of a copy, each checked.

    Parameters
    ----------
    copy : bytes
        JSON of `exported`, or an object that holds it as "copy".

    Raises
    ------
    LedgerError
        If it is no copy, or a row is not as it was written.
    """
    try:
        facts = json.loads(copy)
        facts = facts.get("copy", facts)
        if facts["schema"] != COPY_SCHEMA or not facts["rows"]:
            raise ValueError
        rows = tuple(Row(row["sequence"], row["content"], row["previous"], row["digest"]) for row in facts["rows"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerError(f"A copy must be what 'medfl ledger show --json' prints, schema {COPY_SCHEMA}.") from error
    return tuple(chained(rows))


def restore(
    path: Path,
    *,
    note: str,
    copy: bytes | None = None,
    charged: Mapping[Account, Budget] | None = None,
    clock: Clock = utc_now,
) -> Ledger:
    """Put a ledger in the place of one that is lost or damaged; what is left of that is kept under another name.

    A copy that ends where the witness says is taken up as it is. In every other case what was spent is not known, so
    the whole budget is charged for each account that is named or stands in the copy, and nothing more is allowed on it
    until somebody grants more, with a note.

    Parameters
    ----------
    path : Path
        Where the ledger was.
    note : str
        Who restores it and why.
    copy : bytes or None
        As `imported` takes it.
    charged : mapping of Account to Budget or None
        Every account there was, with the most it was ever allowed.
    clock : callable

    Returns
    -------
    Ledger

    Raises
    ------
    LedgerError
        If the ledger is sound, or no account is known and the copy is not exact.
    ConfigError
        If the note is not one printable line.
    """
    require_line("note", note)
    if not path.parent.is_dir():
        raise LedgerError(f"The folder of the ledger {path.name} must exist; it does not. Make it.")
    if _is_sound(path):
        raise LedgerError(f"Only a ledger that is lost or damaged is restored; {path.name} is sound. Keep using it.")
    rows = () if copy is None else imported(copy)
    books = Books()
    for row in rows:
        books.add(read(row))
    recorded = stamp(clock)
    with in_words(path), locked(path.parent):
        exact = bool(rows) and _witness_says(path) == rows[-1].head
        if exact:
            contents: list[Content] = [Restored(recorded=recorded, exact=True, charged=(), note=note)]
        else:
            known = books.highest_budgets()
            for account, budget in (charged or {}).items():
                known[account] = higher(known[account], budget) if account in known else budget
            if not known:
                raise LedgerError(
                    "What was spent is not known, so every account there was must be named with its budget, to be "
                    "charged in full; found none. Name them, or give a copy that ends where the witness says."
                )
            whole = tuple(Charged(account=account, budget=budget) for account, budget in known.items())
            contents = [
                Created(recorded=recorded, identity=secrets.token_hex(16)),
                Restored(recorded=recorded, exact=False, charged=whole, note=note),
            ]
            check_charges(whole)
        part, head = build(path, map(written, contents), rows if exact else ())
        if traces(path):
            set_aside(path, f"damaged-{recorded.replace(':', '')}")
        install(part, path)
        write_witness(path, head)
    return Ledger.open(path, clock=clock)


def _is_sound(path: Path) -> bool:
    """Return whether a ledger can be used; one that cannot be reached now may be sound."""
    try:
        with Ledger.open(path) as ledger:
            ledger.verify()
    except LedgerUnreachableError:
        raise
    except LedgerError:
        return False
    return True


def _witness_says(path: Path) -> Head | None:
    try:
        return read_witness(path) if witness_path(path).exists() else None
    except LedgerError:
        return None
