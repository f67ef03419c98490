"""FedAdam: Adam at the hub on the mean update (Reddi et al. 2021, algorithm 2)."""

from collections.abc import Sequence

import numpy as np

from medfl.federation.program import Arrays
from medfl.federation.strategies.strategy import ArrayMap, SiteUpdate, Strategy, weighted_mean


class FedAdam(Strategy):
    """Adaptive server steps on the mean update `d`.

    ``m = b1 m + (1 - b1) d``, ``v = b2 v + (1 - b2) d^2``, ``w = w + lr m / (sqrt(v) + tau)``.
    Integer arrays follow the mean.

    Parameters
    ----------
    learning_rate : float
        Of the hub, > 0.
    beta_1, beta_2 : float
        Decay of the first and second moment, in [0, 1).
    tau : float
        Degree of adaptivity, > 0; also the initial root of `v`.
    """

    def __init__(self, learning_rate: float, *, beta_1: float, beta_2: float, tau: float) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.tau = tau
        self._first: Arrays = {}
        self._second: Arrays = {}

    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the model after one server step."""
        mean = weighted_mean(updates)
        moved: Arrays = {}
        for name, array in mean.items():
            if array.dtype.kind != "f":
                moved[name] = array
                continue
            before = model[name].astype(np.float64)
            delta = array.astype(np.float64) - before
            first = self._first.get(name, np.zeros_like(delta))
            second = self._second.get(name, np.full_like(delta, self.tau**2))
            first = self.beta_1 * first + (1 - self.beta_1) * delta
            second = self.beta_2 * second + (1 - self.beta_2) * delta**2
            self._first[name], self._second[name] = np.asarray(first), np.asarray(second)
            after = before + self.learning_rate * first / (np.sqrt(second) + self.tau)
            moved[name] = np.asarray(after, dtype=array.dtype)
        return moved

    def state(self) -> Arrays:
        """Return both moments."""
        firsts = {f"first/{name}": array for name, array in self._first.items()}
        return firsts | {f"second/{name}": array for name, array in self._second.items()}

    def restore(self, state: ArrayMap) -> None:
        """Take back both moments."""
        self._first = {n.removeprefix("first/"): a.copy() for n, a in state.items() if n.startswith("first/")}
        self._second = {n.removeprefix("second/"): a.copy() for n, a in state.items() if n.startswith("second/")}
