"""What the hub can ask a site to do, in plain values: no message, no wire."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
SITE_NAME = re.compile(r"\w[\w .-]{0,63}")
"""What a site may be called on the wire."""

Option = int | float | str | bool | list[str]


@dataclass(frozen=True)
class SiteFacts:
    """What a site says about itself before the first round.

    Attributes
    ----------
    site : str
    subjects, studies : mapping of str to int
        Counts per split, "train", "val" and "test".
    """

    site: str
    subjects: Mapping[str, int]
    studies: Mapping[str, int]


@dataclass(frozen=True)
class Order:
    """What a site is asked to do.

    Attributes
    ----------
    round, rounds : int
        Number of this round, from 1, and how many are planned.
    model : dict of str to ndarray
        Global parameters and buffers.
    control : dict of str to ndarray
        Extra arrays of the strategy; usually none.
    options : mapping
        Instructions of the strategy, and the split to evaluate.
    """

    round: int
    rounds: int
    model: Arrays
    control: Arrays
    options: Mapping[str, Option]


@dataclass(frozen=True)
class TrainReply:
    """What a site answers after training.

    Attributes
    ----------
    model, control : dict of str to ndarray
    subjects, studies : int
        Distinct ones that were trained on.
    loss, seconds : float or None
        None where they are not told.
    """

    model: Arrays
    control: Arrays
    subjects: int
    studies: int
    loss: float | None
    seconds: float | None


@dataclass(frozen=True)
class EvaluateReply:
    """Additive measures of one split; none when the minimum of subjects is not met."""

    measures: Arrays
    subjects: int
    studies: int
    suppressed: str = ""


@dataclass(frozen=True)
class ReleaseReply:
    """What a site answers when it is asked for protected features.

    Attributes
    ----------
    sealed : dict of str to ndarray
        Envelopes as uint8 arrays, and the key to open them, wrapped for the hub; empty where the sites train the head.
    subjects, studies : int
        Behind the envelopes.
    seconds : float
    key_id : str
        Of the keyed transform; empty without one.
    """

    sealed: Arrays
    subjects: int
    studies: int
    seconds: float
    key_id: str = ""


@dataclass
class SiteMemory:
    """Arrays a site keeps between messages; they never leave it."""

    arrays: Arrays = field(default_factory=dict)


class SiteProgram(Protocol):
    """One hospital's side of a run."""

    def describe(self) -> SiteFacts:
        """Say how much data there is."""
        ...

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        """Train on the site's own data."""
        ...

    def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Judge the model on the site's own data."""
        ...

    def finish(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Judge the final model and keep cases and predictions at the site."""
        ...


@runtime_checkable
class FeatureSiteProgram(SiteProgram, Protocol):
    """One hospital's side of a run that shares features."""

    def sums(self, order: Order) -> EvaluateReply:
        """Sum up features per class, for the directions that the task needs."""
        ...

    def choose(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Count how often each candidate of a bottleneck is right on the validation studies."""
        ...

    def release(self, order: Order, memory: SiteMemory) -> ReleaseReply:
        """Protect all features, and seal those of training studies for the hub."""
        ...
