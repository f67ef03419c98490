"""FedProx: FedAvg with a pull towards the global model during local training (Li et al. 2020)."""

from medfl.federation.program import Option
from medfl.federation.strategies.fedavg import FedAvg


class FedProx(FedAvg):
    """Weighted mean; sites add ``mu (w - w_global)`` to each gradient.

    Parameters
    ----------
    mu : float
        Strength of the pull, at least 0; 0 is FedAvg.
    """

    def __init__(self, mu: float) -> None:
        self.mu = mu

    def instructions(self) -> dict[str, Option]:
        """Tell sites the strength of the pull."""
        return {"proximal-mu": self.mu}
