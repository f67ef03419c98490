"""What left a site, and what is claimed about it."""

import math
from typing import Literal

from pydantic import Field

from medfl.results.metrics import ResultModel


class Release(ResultModel):
    """One kind of thing that leaves a site during a run.

    Attributes
    ----------
    site : str
    what : str
        Plain words, for example "weight update" or "additive measures of the validation split".
    subjects : int
        Distinct subjects behind it.
    times : int
        How often it was sent.
    mechanism : str
        dp-accounting event name; "NonPrivateDpEvent" where nothing is proven.
    unit, adjacency, accountant, release_model : str
        What the epsilon is about. The unit is always the subject.
    delta : float or None
    epsilon : float
        Infinity unless proven otherwise; never 0 and never blank.
    note : str
    """

    site: str
    what: str
    subjects: int = Field(ge=0)
    times: int = Field(ge=0)
    mechanism: str = "NonPrivateDpEvent"
    unit: Literal["subject"] = "subject"
    adjacency: str = "not applicable"
    accountant: str = "none"
    release_model: str = "every message is seen by the hub"
    delta: float | None = None
    epsilon: float = math.inf
    note: str = ""


class Balance(ResultModel):
    """What a site's ledger had booked on a run's account when the run ended, this run included.

    Attributes
    ----------
    site, data_set, purpose : str
    spent : float
        Epsilon of every subject over all runs of the account.
    limit : float
        Most that may be spent; infinity where the ledger only keeps the books.
    delta : float
    adjacency : str
    entries : int
        Releases that are booked.
    head : str
        "ROW:HASH", where the ledger ended.
    """

    site: str
    data_set: str
    purpose: str
    spent: float = Field(ge=0)
    limit: float = Field(gt=0)
    delta: float
    adjacency: str
    entries: int = Field(ge=0)
    head: str


class PrivacyRecord(ResultModel):
    """`privacy.json`: everything that was released."""

    releases: tuple[Release, ...]
    statement: str
