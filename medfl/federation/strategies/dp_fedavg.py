"""DP-FedAvg: the plain mean of clipped updates over a fixed number of sites, noised (McMahan et al. 2018)."""

from collections.abc import Sequence

from medfl.errors import ConfigError, FederationError
from medfl.federation.program import Arrays
from medfl.federation.strategies.strategy import ArrayMap, SiteUpdate, Strategy
from medfl.privacy.gaussian import NoiseSource
from medfl.privacy.update_noise import check_noise, clipped_total, moved_by, noised


class DpFedAvg(Strategy):
    """``w + (sum of clipped updates + N(0, (noise_multiplier * clip)^2)) / sites``.

    The noise is added at the hub, which sees every update as it is and is trusted with it. The guarantee is for who
    sees the global models only, other sites among them.

    Every site counts the same, whatever it says about its number of studies, and the denominator is the number of sites
    of the plan, whoever replied: a reply that is missing or was refused counts as no update. With no reply at all the
    model moves by noise alone. That is legal, and as good for the account as any other round; a `Hub` skips it before,
    and then nothing is released. Who replied and who did not is seen by everybody and no part of the guarantee. Integer
    and boolean arrays stay as they are.

    Noise is never kept or repeated: there is no state, and a round that is computed again is another release.

    Parameters
    ----------
    clip : float
        Largest L2 norm of one site's update, > 0.
    noise_multiplier : float
        Of the sum, in units of `clip`, > 0; see `update_accounting.update_noise_for`.
    sites : int
        Fixed before the run, at least 1.
    source : NoiseSource
        In production a `Keystream` of a key just drawn from the operating system, never from the run's seed.

    Raises
    ------
    ConfigError
        If there is no site, or clip or noise multiplier is not finite and above 0.
    """

    def __init__(self, clip: float, noise_multiplier: float, sites: int, source: NoiseSource) -> None:
        if sites < 1:
            raise ConfigError(f"a mean needs at least one site, found {sites}.")
        check_noise(clip, noise_multiplier)
        self.clip = clip
        self.noise_multiplier = noise_multiplier
        self.sites = sites
        self._source = source

    def aggregate(self, model: ArrayMap, updates: Sequence[SiteUpdate]) -> Arrays:
        """Return the model after one noised mean update; no update at all is legal.

        Raises
        ------
        FederationError
            If a site replied twice, or more sites than planned did.
        ShapeError
            If a reply does not fit the model.
        """
        names = {update.site for update in updates}
        if len(names) != len(updates) or len(names) > self.sites:
            raise FederationError(
                f"DP-FedAvg takes one update of each of {self.sites} sites; found {len(updates)} of {len(names)} sites."
            )
        total = clipped_total(model, (update.model for update in updates), self.clip)
        noisy = noised(total, clip=self.clip, noise_multiplier=self.noise_multiplier, source=self._source)
        return moved_by(model, noisy / self.sites)
