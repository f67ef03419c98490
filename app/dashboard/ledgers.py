"""A site's privacy ledger, read from a private copy: opening the original would leave SQLite's files beside it."""

import math
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medfl.governance.ledger_events import Entry

_ATTEMPTS = 4
_MOST_POINTS = 24
_LARGEST = 256_000_000
_SUFFIXES = (".witness", "", "-wal")


@dataclass(frozen=True)
class AccountView:
    """One account of a ledger.

    Attributes
    ----------
    data_set, purpose : str
    limit : float
        Epsilon that may be spent; infinite without a limit.
    delta : float
    adjacency : str
    spent : float
        Epsilon; infinite where something without a proof was booked.
    pending : int
        Reservations that were never confirmed; they count as spent.
    points : tuple of (datetime, float)
        Epsilon spent after a booking, over time; of many bookings, some.
    """

    data_set: str
    purpose: str
    limit: float
    delta: float
    adjacency: str
    spent: float
    pending: int
    points: tuple[tuple[datetime, float], ...]

    @property
    def left(self) -> float:
        """Epsilon that remains; never below 0."""
        return math.inf if math.isinf(self.limit) else max(0.0, self.limit - self.spent)


@dataclass(frozen=True)
class LedgerView:
    """One ledger.

    Attributes
    ----------
    name : str
        The site it is of, as its file says; "" for the site's own.
    accounts : tuple of AccountView
    problem : bool
        Whether it cannot be trusted or read; then there are no accounts.
    """

    name: str
    accounts: tuple[AccountView, ...]
    problem: bool = False


def ledger_files(run: Path, site: Path | None) -> tuple[tuple[str, Path], ...]:
    """Return the site's own ledger, and those that a simulation keeps in its run folder.

    Parameters
    ----------
    run : Path
    site : Path or None
        The site's state folder.
    """
    from medfl.results.store import RunStore

    own = [("", site / "ledger.db")] if site is not None and (site / "ledger.db").is_file() else []
    return (*own, *((path.stem, path) for path in sorted(RunStore(run).ledgers.glob("*.db"))))


def read_ledger(name: str, path: Path) -> LedgerView:
    """Return what stands in a ledger; every row of it is checked.

    Parameters
    ----------
    name : str
        To show.
    path : Path
        The database. It is copied; while somebody writes, a copy may not fit together and is made again.
    """
    from medfl.errors import MedFLError

    for _ in range(_ATTEMPTS):
        try:
            if path.stat().st_size > _LARGEST:
                break
            with TemporaryDirectory(prefix="medfl-ledger-") as folder:
                return LedgerView(name, _accounts(_copy(path, Path(folder))))
        except (MedFLError, OSError):
            continue
    return LedgerView(name, (), problem=True)


def changes_of(path: Path) -> tuple[int, ...]:
    """Return times and sizes of a ledger's files; what was read holds as long as they stay."""
    found: list[int] = []
    for suffix in _SUFFIXES:
        place = path.with_name(path.name + suffix)
        if place.exists():
            facts = place.stat()
            found += [facts.st_mtime_ns, facts.st_size]
    return tuple(found)


def _copy(path: Path, folder: Path) -> Path:
    """Copy the witness first: it may be behind the rows by one, and never ahead of them."""
    for suffix in _SUFFIXES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    return folder / path.name


def _accounts(path: Path) -> tuple[AccountView, ...]:
    from medfl.governance.ledger import Ledger

    with Ledger.open(path) as ledger:
        entries = ledger.events()
        budgets = ledger.accounts()
        spent = {account: ledger.spent(account).epsilon for account in budgets}
        pending = {account: ledger.pending(account) for account in budgets}
    points = _over_time(entries)
    return tuple(
        AccountView(
            account.data_set,
            account.purpose,
            budget.limit,
            budget.delta,
            budget.adjacency,
            spent[account],
            pending[account],
            tuple(points.get((account.data_set, account.purpose), ())),
        )
        for account, budget in budgets.items()
    )


def _over_time(entries: "tuple[Entry, ...]") -> dict[tuple[str, str], list[tuple[datetime, float]]]:
    """Compose what was booked up to some of the bookings of every account, the last one always among them."""
    from medfl.governance.ledger_books import Books
    from medfl.governance.ledger_events import Reserved

    booked: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        if isinstance(entry.content, Reserved):
            account = entry.content.account
            booked.setdefault((account.data_set, account.purpose), []).append(entry.row.sequence)
    wanted = {number for numbers in booked.values() for number in _some(numbers)}
    books = Books()
    points: dict[tuple[str, str], list[tuple[datetime, float]]] = {name: [] for name in booked}
    for entry in entries:
        books.add(entry)
        if entry.row.sequence in wanted and isinstance(entry.content, Reserved):
            account = entry.content.account
            when = datetime.fromisoformat(entry.content.recorded)
            points[(account.data_set, account.purpose)].append((when, books.spent(account).epsilon))
    return points


def _some(numbers: list[int]) -> list[int]:
    """Return at most 24 of some numbers, evenly, with the first and the last."""
    if len(numbers) <= _MOST_POINTS:
        return numbers
    return [numbers[round(place * (len(numbers) - 1) / (_MOST_POINTS - 1))] for place in range(_MOST_POINTS)]
