"""FedAvg: the mean of the sites' models, weighted by their number of studies (McMahan et al. 2017)."""

from collections.abc import Sequence

from medfl.federation.program import Arrays
from medfl.federation.strategies.strategy import ArrayMap, SiteUpdate, Strategy, weighted_mean


class FedAvg(Strategy):
    """Weighted mean."""

    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the weighted mean of the updates."""
        return weighted_mean(updates)
