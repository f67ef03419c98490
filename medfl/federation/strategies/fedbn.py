"""FedBN: FedAvg that leaves normalization layers at the sites (Li et al. 2021)."""

from collections.abc import Sequence

from medfl.federation.program import Arrays, Option
from medfl.federation.strategies.strategy import ArrayMap, SiteUpdate, Strategy, weighted_mean


class FedBN(Strategy):
    """Weighted mean of everything but the arrays named local.

    Each site keeps its own copy of the local arrays and they never leave it, so the hub's model alone is not any
    site's model.

    Parameters
    ----------
    local_names : sequence of str
        Arrays that stay at the sites.
    """

    def __init__(self, local_names: Sequence[str]) -> None:
        self.local_names = frozenset(local_names)

    def instructions(self) -> dict[str, Option]:
        """Tell sites which arrays are theirs."""
        return {"local-names": sorted(self.local_names)}

    def shared(self, model: ArrayMap) -> Arrays:
        """Return the arrays that are exchanged."""
        return {name: array for name, array in model.items() if name not in self.local_names}

    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the weighted mean of what was shared; local arrays stay as the hub started them."""
        return {**dict(model), **weighted_mean(updates)}
