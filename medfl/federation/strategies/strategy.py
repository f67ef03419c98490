"""The shape of every aggregation strategy, and the weighted mean most of them start from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.federation.program import Arrays, Option

ArrayMap = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SiteUpdate:
    """One validated reply.

    Attributes
    ----------
    site : str
    model : dict of str to ndarray
        The shared arrays after local training.
    control : dict of str to ndarray
        Extra arrays of the strategy.
    studies : int
        Weight of the site; checked against what it announced.
    """

    site: str
    model: Arrays
    control: Arrays
    studies: int


class Strategy(ABC):
    """Decides what sites are told and how their updates are joined."""

    def instructions(self) -> dict[str, Option]:
        """Return the options every site receives with its training order."""
        return {}

    def control(self, model: ArrayMap) -> Arrays:
        """Return extra arrays to send with the model; usually none."""
        return {}

    def expected_control(self, model: ArrayMap) -> ArrayMap:
        """Return what a reply's extra arrays must look like; usually none."""
        return {}

    def shared(self, model: ArrayMap) -> Arrays:
        """Return the part of the model that is exchanged; usually all of it."""
        return dict(model)

    @abstractmethod
    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the next global model.

        Parameters
        ----------
        model : mapping of str to ndarray
            The global model the sites started from, whole.
        updates : sequence of SiteUpdate
            At least one, each with the names, shapes and dtypes of `shared(model)`.
        """

    def state(self) -> Arrays:
        """Return what a resumed run needs besides the model."""
        return {}

    def restore(self, state: ArrayMap) -> None:
        """Take back what `state` returned; a strategy without state has nothing to take."""
        del state


def weighted_mean(updates: Sequence[SiteUpdate]) -> Arrays:
    """Return the mean of the updates' models, weighted by studies, summed in float64.

    Integer arrays such as batch counters are rounded to the nearest whole number; every array keeps its dtype.

    Parameters
    ----------
    updates : sequence of SiteUpdate
        At least one.
    """
    total = sum(update.studies for update in updates)
    mean: Arrays = {}
    for name, first in updates[0].model.items():
        summed = np.zeros(first.shape, dtype=np.float64)
        for update in updates:
            summed += update.model[name].astype(np.float64) * (update.studies / total)
        mean[name] = np.asarray(np.rint(summed) if first.dtype.kind in "iub" else summed, dtype=first.dtype)
    return mean
