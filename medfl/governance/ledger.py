"""What a site has spent of its patients' privacy: one file for all runs and processes.

A budget is reserved before a release is computed and committed after it. A reservation counts as spent from the moment
it is made, so a crash can only over-report. Where anything is in doubt - a damaged, truncated, swapped, rolled-back or
missing ledger, a clock far behind - nothing is allowed.

Composition is per subject and does not look at who was in which set: everything booked on one data set counts for every
subject of it. Two releases about different patients of one data set therefore cost as if they were about the same ones.
"""

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from medfl.errors import ConfigError
from medfl.governance.ledger_books import Books, Spent, claim_of
from medfl.governance.ledger_chain import START, Head, chained
from medfl.governance.ledger_clock import Clock, check_clock, stamp, utc_now
from medfl.governance.ledger_errors import LedgerError, LedgerExhaustedError
from medfl.governance.ledger_events import (
    Account,
    Budget,
    Cancelled,
    Changed,
    Committed,
    Content,
    Created,
    Entry,
    Opened,
    Reserved,
    SubjectSet,
    read,
    require_line,
    written,
)
from medfl.governance.ledger_file import (
    LedgerFile,
    Turn,
    build,
    in_words,
    install,
    read_witness,
    traces,
    witness_path,
    write_witness,
)
from medfl.privacy.composition import DpEvent, described
from medfl.results.atomic import locked

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reservation:
    """A part of a budget that is set aside for one release; it counts as spent.

    Attributes
    ----------
    sequence : int
        Its number in the ledger.
    token : str
        What takes it back. It is kept nowhere else: after a crash nobody can.
    """

    sequence: int
    token: str = field(repr=False)


class Ledger:
    """An open ledger; use `create` or `open`. Each process and each thread opens its own.

    Parameters
    ----------
    file : LedgerFile
    clock : callable
        Returns the present time; recorded, and refused where it runs more than five minutes behind the last entry.
        The order of entries is that of their numbers.
    """

    def __init__(self, file: LedgerFile, clock: Clock = utc_now) -> None:
        self._file = file
        self._clock = clock
        self._books = Books()
        self._head = START
        self._read_on()

    @classmethod
    def create(cls, path: Path, *, clock: Clock = utc_now) -> Self:
        """Make the ledger of a site, once.

        Parameters
        ----------
        path : Path
            New file on a local disk; its folder must exist.
        clock : callable

        Raises
        ------
        LedgerError
            If there is one, or anything left of one.
        """
        if not path.parent.is_dir():
            raise LedgerError(f"The folder of the ledger {path.name} must exist; it does not. Make it.")
        with in_words(path), locked(path.parent):
            left = traces(path)
            if left or (witness_path(path).exists() and read_witness(path).sequence > 1):
                name = left[0].name if left else witness_path(path).name
                raise LedgerError(
                    f"A site must have one ledger and keep it; {name} is there already. Open it, or see 'medfl ledger "
                    "restore' if it is damaged."
                )
            part, head = build(path, [written(Created(recorded=stamp(clock), identity=secrets.token_hex(16)))])
            write_witness(path, head)
            install(part, path)
        return cls.open(path, clock=clock)

    @classmethod
    def open(cls, path: Path, *, clock: Clock = utc_now) -> Self:
        """Open a ledger and check every row of it.

        Raises
        ------
        LedgerError
            If it is missing, or anything about it is not as it was written.
        """
        file = LedgerFile(path)
        try:
            return cls(file, clock)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self.close()

    @property
    def head(self) -> Head:
        """Where the ledger ended when it was last looked at; keep it somewhere else to compare it later."""
        return self._head

    def open_account(self, account: Account, budget: Budget, *, note: str = "") -> None:
        """Open an account; nothing happens if it is open with the same budget.

        Parameters
        ----------
        account : Account
        budget : Budget
            Its delta should be well below 1 / (10 * subjects): that leaves room to go on after a lost disk.
        note : str
            Who decided it and why; needed for a further purpose of a data set, and after a lost ledger.

        Raises
        ------
        LedgerError
            If it is open with another budget, a note is missing, or the clock is behind.
        ConfigError
            If the note is not one printable line.
        """
        _check_note(note)
        with self._turn() as turn:
            if self._books.accounts().get(account) != budget:
                check_clock(self._clock, self._books.recorded)
                self._append(turn, Opened(recorded=stamp(self._clock), account=account, budget=budget, note=note))

    def change_budget(self, account: Account, budget: Budget, *, note: str = "") -> None:
        """Give an account another budget, or confirm the present one and with it the clock.

        Parameters
        ----------
        account : Account
        budget : Budget
            Its adjacency must stay.
        note : str
            Who decided it and why; needed unless less is allowed than before. A larger delta makes the epsilon that is
            spent look smaller, so it counts as allowing more.

        Raises
        ------
        LedgerError
            If the account is not open, the adjacency differs or a note is missing.
        ConfigError
            If the note is not one printable line.
        """
        _check_note(note)
        with self._turn() as turn:
            if not note:
                check_clock(self._clock, self._books.recorded)
            self._append(turn, Changed(recorded=stamp(self._clock), account=account, budget=budget, note=note))

    def reserve(
        self, account: Account, *, run: str, round: int, release: str, event: DpEvent, subjects: SubjectSet
    ) -> Reservation:
        """Set a part of a budget aside before a release is computed; no other process can spend it as well.

        Parameters
        ----------
        account : Account
        run : str
            Id of the run.
        round : int
            From 0. A round that is done again after a crash draws new noise and is reserved, and spent, again.
        release : str
            What is released, for example "weight update".
        event : DpEvent
            What will be done, for the adjacency of the account.
        subjects : SubjectSet
            Whose data the release is about.

        Returns
        -------
        Reservation

        Raises
        ------
        LedgerExhaustedError
            If more would be spent than the budget allows; nothing is booked.
        LedgerError
            If the account is not open, the same subjects are booked under another data set, or the clock is behind.
        ConfigError
            If the budget's delta is above 1 / (10 * subjects), or a name is no printable line.
        """
        require_line("run", run)
        require_line("release", release)
        token = secrets.token_hex(16)
        self._read_on()
        self._books.spent(account, event)  # remembered, so that others need not wait for it during the turn
        with self._turn() as turn:
            check_clock(self._clock, self._books.recorded)
            budget = self._books.page(account).budget
            if budget.delta * 10 * subjects.number > 1 + _ROUNDING:
                raise ConfigError(
                    f"delta must be at most 1 / (10 * subjects) = {0.1 / subjects.number:.2g}, found {budget.delta:g} "
                    f"for {account}; lower it with 'medfl ledger budget'."
                )
            content = Reserved(
                recorded=stamp(self._clock),
                account=account,
                run=run,
                round=round,
                release=release,
                event=described(event),
                subjects=subjects,
                claim=claim_of(token),
            )
            self._books.check(content)
            after = self._books.spent(account, event).epsilon
            if not after <= budget.limit:
                raise LedgerExhaustedError(self._exhausted(account, budget, after))
            self._append(turn, content)
        return Reservation(self._head.sequence, token)

    def commit(self, reservation: Reservation) -> None:
        """Say that a reserved release was made; nothing happens if it was said before.

        Raises
        ------
        LedgerError
            If the reservation was taken back, or is none of this ledger.
        """
        with self._turn() as turn:
            if self._books.state(reservation.sequence) != "committed":
                content = Committed(recorded=stamp(self._clock), reservation=reservation.sequence)
                self._append(turn, content)

    def cancel(self, reservation: Reservation) -> None:
        """Give a reservation back. Only before anything was computed from data; nothing happens if it was given back.

        Raises
        ------
        LedgerError
            If it was committed, is none of this ledger, or its token is wrong.
        """
        with self._turn() as turn:
            if self._books.state(reservation.sequence) != "cancelled":
                number, token = reservation.sequence, reservation.token
                self._append(turn, Cancelled(recorded=stamp(self._clock), reservation=number, token=token))

    def accounts(self) -> dict[Account, Budget]:
        """Return every account with its present budget."""
        self._read_on()
        return self._books.accounts()

    def spent(self, account: Account) -> Spent:
        """Return what is spent on an account: all that is reserved or committed, composed.

        Raises
        ------
        LedgerError
            If it is not open.
        """
        self._read_on()
        return self._books.spent(account)

    def total(self, data_set: str) -> Spent:
        """Return what is spent on a data set for all purposes together, at the sum of their deltas.

        Raises
        ------
        LedgerError
            If it has no account.
        """
        self._read_on()
        return self._books.total(data_set)

    def pending(self, account: Account) -> int:
        """Return how many reservations of an account were neither committed nor given back; they count as spent."""
        self._read_on()
        return self._books.pending(account)

    def events(self) -> tuple[Entry, ...]:
        """Return everything that was ever booked, in order, read and checked anew."""
        with self._file.turn(START) as turn:
            return tuple(read(row) for row in turn.rows)

    def verify(self, noted: Head | None = None) -> Head:
        """Check the whole file anew: SQLite's structures, triggers, every hash, what the rows say, and the witness.

        Parameters
        ----------
        noted : Head or None
            An earlier head that was kept somewhere else; the chain must go through it.

        Returns
        -------
        Head

        Raises
        ------
        LedgerError
            If anything is not as it was written; the first row that is not is named.
        """
        self._file.check_database()
        books, passed = Books(), noted is None
        with self._file.turn(START) as turn:
            for row in chained(turn.rows):
                books.add(read(row))
                passed = passed or row.head == noted
        if not passed and noted is not None:
            raise LedgerError(
                f"The ledger must go through the head that was noted at row {noted.sequence}; it does not, so it is "
                "another history. Nothing may be released."
            )
        return turn.head

    @contextmanager
    def _turn(self) -> Iterator[Turn]:
        """Take a turn at the file with the books up to date; what is added in it is in the books afterwards."""
        with self._file.turn(self._head) as turn:
            for row in turn.rows:
                self._books.add(read(row))
                self._head = row.head
            yield turn
        if turn.added is not None:
            self._books.add(read(turn.added))
            self._head = turn.added.head

    def _read_on(self) -> None:
        """Book what others have added."""
        with self._turn():
            pass

    def _append(self, turn: Turn, content: Content) -> None:
        self._books.check(content)
        turn.append(written(content))

    def _exhausted(self, account: Account, budget: Budget, after: float) -> str:
        spent = self._books.spent(account).epsilon
        would = "infinite: nothing is proven about it" if math.isinf(after) else f"{after:.4g}"
        return (
            f"The budget of {account} must hold this release; it is {budget}, {spent:.4g} is spent, and this would "
            f"make it {would}. Nothing was released, and the model of the last allowed round stands."
        )


def _check_note(note: str) -> None:
    if note:
        require_line("note", note)
