"""SCAFFOLD: control variates against the drift of sites that see different data (Karimireddy et al. 2020)."""

from collections.abc import Sequence

import numpy as np

from medfl.federation.program import Arrays, Option
from medfl.federation.strategies.strategy import ArrayMap, SiteUpdate, Strategy, weighted_mean


class Scaffold(Strategy):
    """Weighted mean of models; sites correct each gradient by ``c - c_site``.

    A site answers with the change of its own variate; the hub adds the weighted mean of the changes to `c`. Sites keep
    their own variate; it never leaves them, but its change does.

    Parameters
    ----------
    parameter_names : sequence of str
        Arrays that have gradients, in the network's order.
    """

    def __init__(self, parameter_names: Sequence[str]) -> None:
        self.parameter_names = tuple(parameter_names)
        self._variate: Arrays = {}

    def instructions(self) -> dict[str, Option]:
        """Tell sites to use and to return control variates."""
        return {"control-variates": True}

    def control(self, model: ArrayMap) -> Arrays:
        """Return the global variate; zeros before the first round."""
        return {
            name: self._variate.get(name, np.zeros(model[name].shape, model[name].dtype))
            for name in self.parameter_names
        }

    def expected_control(self, model: ArrayMap) -> ArrayMap:
        """Return arrays shaped like the parameters."""
        return {name: model[name] for name in self.parameter_names}

    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the mean model, and move the global variate."""
        changes = weighted_mean([SiteUpdate(u.site, u.control, {}, u.studies) for u in updates])
        self._variate = {name: np.asarray(array + changes[name]) for name, array in self.control(model).items()}
        return weighted_mean(updates)

    def state(self) -> Arrays:
        """Return the global variate."""
        return dict(self._variate)

    def restore(self, state: ArrayMap) -> None:
        """Take back the global variate."""
        self._variate = {name: array.copy() for name, array in state.items()}
