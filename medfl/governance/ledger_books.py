"""What the rows of a ledger amount to: accounts, what is spent on each, and what may be booked next."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from medfl.errors import ConfigError
from medfl.governance.ledger_chain import broken
from medfl.governance.ledger_errors import LedgerError
from medfl.governance.ledger_events import (
    Account,
    Budget,
    Cancelled,
    Changed,
    Charged,
    Committed,
    Content,
    Created,
    Entry,
    Opened,
    Reserved,
    Restored,
)
from medfl.privacy.composition import DpEvent, EpsilonDelta, NonPrivate, composed_epsilon, event_from


@dataclass(frozen=True)
class Spent:
    """What is spent on every subject of an account or a data set.

    Attributes
    ----------
    epsilon : float
        Upper bound over everything reserved and not taken back; 0 where nothing is, infinite where nothing is proven.
    delta : float
    adjacency : str
    events : int
        Entries behind it, a charge after a lost disk included.
    """

    epsilon: float
    delta: float
    adjacency: str
    events: int


@dataclass
class _Page:
    """One account."""

    budget: Budget
    highest: Budget
    spent: Counter[DpEvent] = field(default_factory=Counter)


class Books:
    """The state after some rows; made by adding them one by one."""

    def __init__(self) -> None:
        self._pages: dict[Account, _Page] = {}
        self._open: dict[int, tuple[Account, DpEvent, str]] = {}
        self._closed: dict[int, str] = {}
        self._data_set_of: dict[str, str] = {}
        self._lossy = False
        self._begun = False
        self.recorded = ""
        """When the last row was written, by the clock of that moment."""

    def add(self, entry: Entry) -> None:
        """Book one row.

        Raises
        ------
        LedgerError
            If it does not fit what was booked before; the row is named.
        """
        try:
            self.check(entry.content)
        except (LedgerError, ConfigError) as error:
            raise broken(entry.row.sequence, f"it does not fit the rows before ({error})") from error
        match entry.content:
            case Created():
                self._begun = True
            case Opened(account=account, budget=budget):
                self._pages[account] = _Page(budget, budget)
            case Reserved() as made:
                event = event_from(made.event)
                self._pages[made.account].spent[event] += 1
                self._open[entry.row.sequence] = (made.account, event, made.claim)
                self._data_set_of[made.subjects.digest] = made.account.data_set
            case Committed(reservation=number):
                del self._open[number]
                self._closed[number] = "committed"
            case Cancelled(reservation=number):
                account, event, _ = self._open.pop(number)
                self._pages[account].spent[event] -= 1
                self._closed[number] = "cancelled"
            case Changed(account=account, budget=budget):
                page = self._pages[account]
                page.budget, page.highest = budget, higher(page.highest, budget)
            case Restored() as restored:
                self._lossy = self._lossy or not restored.exact
                for charged in restored.charged:
                    page = _Page(charged.budget, charged.budget)
                    page.spent[_whole(charged.budget)] += 1
                    self._pages[charged.account] = page
        self.recorded = entry.content.recorded

    def check(self, content: Content) -> None:
        """Check that an entry may come next; whether it can be afforded is not looked at.

        Raises
        ------
        LedgerError
            If it may not.
        ConfigError
            If its event is unknown.
        """
        if isinstance(content, Created) == self._begun:
            raise LedgerError("the first row of a ledger, and no other, must say that it was created.")
        match content:
            case Opened(account=account, budget=budget, note=note):
                self._check_opening(account, budget, note)
            case Reserved() as made:
                self.page(made.account)
                event_from(made.event)
                known = self._data_set_of.get(made.subjects.digest, made.account.data_set)
                if known != made.account.data_set:
                    raise LedgerError(
                        f"releases about the same subjects must be booked under one data set, because they add up for "
                        f"each of them; these subjects are booked under '{known}'. Use that account."
                    )
            case Committed(reservation=number):
                self._pending(number)
            case Cancelled(reservation=number, token=token):
                if claim_of(token) != self._pending(number):
                    raise LedgerError("only the process that made a reservation can take it back; it counts as spent.")
            case Changed(account=account, budget=budget, note=note):
                self._check_change(self.page(account).budget, budget, note)
            case Restored(charged=charged):
                if any(one.account in self._pages for one in charged):
                    raise LedgerError("an account must not be charged again by a restoration.")
                check_charges(charged)

    def accounts(self) -> dict[Account, Budget]:
        """Return every account with its present budget."""
        return {account: page.budget for account, page in self._pages.items()}

    def highest_budgets(self) -> dict[Account, Budget]:
        """Return every account with the most it was ever allowed."""
        return {account: page.highest for account, page in self._pages.items()}

    def page(self, account: Account) -> _Page:
        """Return an account.

        Raises
        ------
        LedgerError
            If it is not open.
        """
        if account not in self._pages:
            raise LedgerError(f"The account {account} must be opened with a budget first; it is not open.")
        return self._pages[account]

    def state(self, number: int) -> str:
        """Return "reserved", "committed" or "cancelled" for the number of a reservation, "unknown" for another."""
        return "reserved" if number in self._open else self._closed.get(number, "unknown")

    def pending(self, account: Account) -> int:
        """Return how many reservations of an account are neither committed nor taken back; they count as spent."""
        return sum(owner == account for owner, _, _ in self._open.values())

    def spent(self, account: Account, more: DpEvent | None = None) -> Spent:
        """Return what is spent on an account, or what would be with one event more."""
        page = self.page(account)
        events = page.spent if more is None else page.spent + Counter([more])
        budget = page.budget
        return Spent(
            composed_epsilon(events, budget.delta, budget.adjacency), budget.delta, budget.adjacency, events.total()
        )

    def total(self, data_set: str) -> Spent:
        """Return what is spent on a data set over all purposes, at the sum of the deltas of its accounts.

        Raises
        ------
        LedgerError
            If it has no account.
        """
        pages = [page for account, page in self._pages.items() if account.data_set == data_set]
        if not pages:
            raise LedgerError(f"The data set '{data_set}' must have an account; it has none.")
        events = sum((page.spent for page in pages), Counter[DpEvent]())
        delta, adjacency = min(sum(page.budget.delta for page in pages), 0.5), pages[0].budget.adjacency
        return Spent(composed_epsilon(events, delta, adjacency), delta, adjacency, events.total())

    def _check_opening(self, account: Account, budget: Budget, note: str) -> None:
        if account in self._pages:
            raise LedgerError(f"The account {account} is open already; change its budget instead.")
        others = [page.budget for other, page in self._pages.items() if other.data_set == account.data_set]
        if any(other.adjacency != budget.adjacency for other in others):
            raise LedgerError(
                f"All accounts of a data set must have one adjacency, or they could not be added up; found "
                f"'{budget.adjacency}' beside '{others[0].adjacency}'."
            )
        if others and not note:
            raise LedgerError(
                f"A further purpose for the data set '{account.data_set}' allows more about the same subjects, so it "
                "needs a note that says who decided it and why."
            )
        if self._lossy and not note:
            raise LedgerError(
                "An account that is opened after a lost ledger needs a note: what was spent on it before is not known."
            )

    def _check_change(self, old: Budget, new: Budget, note: str) -> None:
        if new.adjacency != old.adjacency:
            raise LedgerError(f"The adjacency of an account must stay '{old.adjacency}', found '{new.adjacency}'.")
        if (new.limit > old.limit or new.delta > old.delta or new == old) and not note:
            raise LedgerError(
                f"A budget that allows more ({new} after {old}) needs a note that says who decided it and why."
            )

    def _pending(self, number: int) -> str:
        """Return the claim of a reservation that is still open."""
        if number not in self._open:
            raise LedgerError(f"Entry {number} must be a reservation that is still open; it is {self.state(number)}.")
        return self._open[number][2]


def higher(one: Budget, other: Budget) -> Budget:
    """Return a budget that allows all that either of two does."""
    largest = max(one.limit, other.limit)
    unlimited = one.epsilon is None or other.epsilon is None
    return Budget(None if unlimited else largest, max(one.delta, other.delta), one.adjacency)


def check_charges(charged: Sequence[Charged]) -> None:
    """Check that a restoration charges every account once, and one adjacency for each data set.

    Raises
    ------
    LedgerError
        If it does not.
    """
    if len({one.account for one in charged}) < len(charged):
        raise LedgerError("a restoration must charge every account once, found one twice.")
    pairs = {(one.account.data_set, one.budget.adjacency) for one in charged}
    if len(pairs) > len({data_set for data_set, _ in pairs}):
        raise LedgerError("all accounts of a data set must have one adjacency, found two.")


def claim_of(token: str) -> str:
    """Return what a reservation shows of the token that can take it back."""
    return hashlib.sha256(token.encode()).hexdigest()


def _whole(budget: Budget) -> DpEvent:
    """Return the worst that can have been spent of a budget."""
    return NonPrivate() if budget.epsilon is None else EpsilonDelta(budget.epsilon, budget.delta)
