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


class PrivacyRecord(ResultModel):
    """`privacy.json`: everything that was released."""

    releases: tuple[Release, ...]
    statement: str
