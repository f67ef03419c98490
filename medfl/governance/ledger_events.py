"""What can stand in a ledger: accounts, budgets, sets of subjects, and the kinds of entries.

Nobody's name or pseudonym enters: a set of subjects is a digest and a number.
"""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from medfl.errors import ConfigError
from medfl.governance.ledger_chain import Row, broken
from medfl.privacy.composition import ADD_OR_REMOVE, REPLACE
from medfl.results.canonical import canonical_json

SCHEMA = "medfl/ledger/1"
_MOST_LETTERS = 120
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Account:
    """What a budget is for. All entries of one account compose for every subject of its data set.

    Attributes
    ----------
    data_set : str
        The site's lasting name for its patients' data, the same in every run; 1 to 120 printable characters.
    purpose : str
        What the releases are for, likewise.

    Raises
    ------
    ConfigError
        If a name has not that form.
    """

    data_set: str
    purpose: str

    def __post_init__(self) -> None:
        """Check both names."""
        require_line("data_set", self.data_set)
        require_line("purpose", self.purpose)

    def __str__(self) -> str:
        """Return both names."""
        return f"'{self.data_set}' for '{self.purpose}'"


@dataclass(frozen=True)
class Budget:
    """Most that may be spent on one subject, over all runs. The unit is always the subject.

    Attributes
    ----------
    epsilon : float or None
        > 0. None: no limit, the ledger only keeps the books; what is not private needs such an account.
    delta : float
        In (0, 1); at a reservation at most 1 / (10 * subjects). Well below that leaves room after a lost disk.
    adjacency : str
        "add or remove one subject" or "replace one subject".

    Raises
    ------
    ConfigError
        If a number is out of range or the adjacency unknown.
    """

    epsilon: float | None
    delta: float
    adjacency: str

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise ConfigError(f"a budget's epsilon must be finite and > 0, or None for no limit; found {self.epsilon}.")
        if not 0 < self.delta < 1:
            raise ConfigError(f"a budget's delta must be in (0, 1), found {self.delta}.")
        if self.adjacency not in (ADD_OR_REMOVE, REPLACE):
            raise ConfigError(f"adjacency must be '{ADD_OR_REMOVE}' or '{REPLACE}', found '{self.adjacency}'.")

    @property
    def limit(self) -> float:
        """Epsilon as a number; infinite where there is no limit."""
        return math.inf if self.epsilon is None else self.epsilon

    def __str__(self) -> str:
        """Return the budget in words."""
        epsilon = "without a limit" if self.epsilon is None else f"{self.epsilon:g}"
        return f"epsilon {epsilon} at delta {self.delta:g} ({self.adjacency})"


@dataclass(frozen=True)
class SubjectSet:
    """Whose data a release is about, without saying who.

    Attributes
    ----------
    digest : str
        SHA-256 of the sorted pseudonyms. Whoever can guess all of them can confirm the guess, so let them be keyed.
    number : int
        Distinct subjects, >= 1.

    Raises
    ------
    ConfigError
        If the digest is not one, or there is no subject.
    """

    digest: str
    number: int

    def __post_init__(self) -> None:
        """Check both fields."""
        if not _DIGEST.fullmatch(self.digest):
            raise ConfigError("a subject set must be named by 64 hexadecimal digits; make it with SubjectSet.of.")
        if self.number < 1:
            raise ConfigError(f"a release must be about at least one subject, found {self.number}.")

    @classmethod
    def of(cls, pseudonyms: Iterable[str]) -> "SubjectSet":
        """Return the set of these pseudonyms; order and repeats do not matter.

        Raises
        ------
        ConfigError
            If there is none, or one is empty.
        """
        names = sorted(set(pseudonyms))
        if not all(names):
            raise ConfigError("every study must have a subject, found one without; see 'medfl data check'.")
        return cls(hashlib.sha256(canonical_json({"subjects": names})).hexdigest(), len(names))


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    recorded: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")  # UTC; the number of the row gives the order


class Created(_Content):
    """The first row; `identity` is drawn at random, so that no two ledgers share a chain."""

    kind: Literal["created"] = "created"
    schema_: Literal["medfl/ledger/1"] = Field(default="medfl/ledger/1", alias="schema")
    identity: str


class Opened(_Content):
    """An account with its budget."""

    kind: Literal["opened"] = "opened"
    account: Account
    budget: Budget
    note: str


class Reserved(_Content):
    """A release that is about to be computed; from here on it counts as spent. Its number is the row's."""

    kind: Literal["reserved"] = "reserved"
    account: Account
    run: str
    round: int = Field(ge=0)
    release: str
    event: dict[str, Any]
    subjects: SubjectSet
    claim: str  # SHA-256 of the token that can take it back


class Committed(_Content):
    """A reserved release was made."""

    kind: Literal["committed"] = "committed"
    reservation: int


class Cancelled(_Content):
    """A reserved release was given up before anything was computed, by the process that reserved it."""

    kind: Literal["cancelled"] = "cancelled"
    reservation: int
    token: str


class Changed(_Content):
    """Another budget for an account, or the present clock confirmed."""

    kind: Literal["budget changed"] = "budget changed"
    account: Account
    budget: Budget
    note: str


class Charged(BaseModel):
    """An account that starts with its whole budget spent, because what was spent is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    account: Account
    budget: Budget


class Restored(_Content):
    """A ledger that was lost: taken up again from an exact copy, or with everything charged."""

    kind: Literal["restored"] = "restored"
    exact: bool
    charged: tuple[Charged, ...]
    note: str


Content = Created | Opened | Reserved | Committed | Cancelled | Changed | Restored
_CONTENT: TypeAdapter[Content] = TypeAdapter(Annotated[Content, Field(discriminator="kind")])


@dataclass(frozen=True)
class Entry:
    """One row and what it says."""

    row: Row
    content: Content


def written(content: Content) -> str:
    """Return the canonical JSON of an entry."""
    return canonical_json(content.model_dump(mode="json", by_alias=True)).decode()


def read(row: Row) -> Entry:
    """Return what a row says.

    Raises
    ------
    LedgerError
        If it says nothing that this version of medfl knows.
    """
    try:
        return Entry(row, _CONTENT.validate_json(row.content))
    except ValidationError as error:
        raise broken(row.sequence, f"it is no entry of {SCHEMA}") from error


def require_line(name: str, value: str) -> None:
    """Check a name or note: 1 to 120 printable characters.

    Raises
    ------
    ConfigError
        If it has not that form; the value is not repeated.
    """
    if not (0 < len(value) <= _MOST_LETTERS and value.isprintable() and value.strip() == value):
        raise ConfigError(
            f"{name} must be 1 to {_MOST_LETTERS} printable characters without blanks around, found {len(value)}."
        )
