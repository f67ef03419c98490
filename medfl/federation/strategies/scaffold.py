"""SCAFFOLD: control variates against the drift of sites that see different data (Karimireddy et al. 2020)."""

from collections.abc import Sequence

import numpy as np

from medfl.federation.program import Arrays, Option
from medfl.federation.strategies.strategy import ArrayMap, SiteUpdate, Strategy, weighted_mean

_WEIGHT, _VARIATE = "weight/", "variate/"


class Scaffold(Strategy):
    """Weighted mean of models; sites correct each gradient by ``c - c_site``.

    A site answers with its own variate. The hub keeps the latest of each site whose reply it used, and `c` is their
    mean, weighted by studies: a dropped reply or an absent site changes nothing but how old its part is.

    Parameters
    ----------
    parameter_names : sequence of str
        Arrays that have gradients, in the network's order.
    """

    def __init__(self, parameter_names: Sequence[str]) -> None:
        self.parameter_names = tuple(parameter_names)
        self._variates: dict[str, SiteUpdate] = {}

    def instructions(self) -> dict[str, Option]:
        """Tell sites to use and to return control variates."""
        return {"control-variates": True}

    def control(self, model: ArrayMap) -> Arrays:
        """Return the global variate; zeros before the first round."""
        if self._variates:
            return weighted_mean([self._variates[site] for site in sorted(self._variates)])
        return {name: np.zeros(model[name].shape, model[name].dtype) for name in self.parameter_names}

    def expected_control(self, model: ArrayMap) -> ArrayMap:
        """Return arrays shaped like the parameters."""
        return {name: model[name] for name in self.parameter_names}

    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the mean model, and keep the variates of the sites that replied."""
        for update in updates:
            self._variates[update.site] = SiteUpdate(update.site, update.control, {}, update.studies)
        return weighted_mean(updates)

    def state(self) -> Arrays:
        """Return every site's latest variate, and its weight."""
        state: Arrays = {}
        for site, kept in self._variates.items():
            state[f"{_WEIGHT}{site}"] = np.array(kept.studies)
            state |= {f"{_VARIATE}{site}/{name}": array for name, array in kept.model.items()}
        return state

    def restore(self, state: ArrayMap) -> None:
        """Take back the variates."""
        sites = [name.removeprefix(_WEIGHT) for name in state if name.startswith(_WEIGHT)]
        for site in sites:
            prefix = f"{_VARIATE}{site}/"
            arrays = {
                name.removeprefix(prefix): array.copy() for name, array in state.items() if name.startswith(prefix)
            }
            self._variates[site] = SiteUpdate(site, arrays, {}, int(state[f"{_WEIGHT}{site}"]))
