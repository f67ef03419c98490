"""What one round of training counts for, and what all rounds of a run may claim."""

from functools import lru_cache

from medfl.config.settings import Config
from medfl.config.training_privacy import DpFedAvg, DpSgd, DpUpdates
from medfl.errors import ConfigError
from medfl.privacy.accounting import HUB_SEES_ALL, ReleaseEvent, check_delta, non_private
from medfl.privacy.composition import DpEvent, NonPrivate
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian, epsilon_of, training_release
from medfl.privacy.update_accounting import MODELS_ONLY, update_event, update_noise_for, update_release
from pipelines.private_training import ADJACENCIES, planned_steps


def round_event(config: Config, adjacency: Adjacency) -> DpEvent:
    """Return what a site's part in one round counts for in a ledger whose account has this adjacency.

    With "dp_fedavg" a site sends its update as it is, to a hub that is trusted with it; what leaves the site has no
    guarantee.
    """
    match config.privacy:
        case DpSgd():
            return planned_steps(config).event()
        case DpUpdates():
            return update_event(update_noise(config), adjacency)
        case _:
            return NonPrivate()


def update_noise(config: Config) -> float:
    """Return the noise multiplier of whole updates that keeps all rounds within the settings' epsilon.

    Raises
    ------
    ConfigError
        If the run noises no updates.
    """
    if not isinstance(config.privacy, DpUpdates):
        raise ConfigError(f"privacy.kind must be 'dp_updates' to noise updates, found {config.privacy.kind!r}.")
    return _update_noise(config.privacy.epsilon, config.privacy.delta, config.training.rounds)


def training_event(config: Config, *, subjects: int, rounds: int) -> ReleaseEvent:
    """Return what all rounds that a site took part in may claim, for `privacy.json`.

    Parameters
    ----------
    config : Config
    subjects : int
        Training subjects of the site.
    rounds : int
        That it was asked for; a reply that was lost counts as well.
    """
    privacy = config.privacy
    if not rounds or not isinstance(privacy, DpSgd | DpUpdates):
        return non_private("sent as they are")
    check_delta(privacy.delta, subjects)
    if isinstance(privacy, DpUpdates):
        return _of_updates(update_noise(config), rounds, privacy.delta, HUB_SEES_ALL)
    plan = planned_steps(config)
    return _of_steps(plan.phase(rounds), privacy.delta, ADJACENCIES[privacy.adjacency], privacy.clip)


def models_event(config: Config, *, subjects: int, rounds: int) -> ReleaseEvent | None:
    """Return what the global models may claim where a trusted hub noises them; None where it does not.

    Parameters
    ----------
    config, subjects, rounds
        As in `training_event`.
    """
    privacy = config.privacy
    if not rounds or not isinstance(privacy, DpFedAvg):
        return None
    check_delta(privacy.delta, subjects)
    return _of_updates(
        update_noise_for(privacy.epsilon, privacy.delta, config.training.rounds), rounds, privacy.delta, MODELS_ONLY
    )


@lru_cache(maxsize=16)
def _update_noise(epsilon: float, delta: float, rounds: int) -> float:
    return update_noise_for(epsilon, delta, rounds)


@lru_cache(maxsize=64)
def _of_steps(phase: SampledGaussian, delta: float, adjacency: Adjacency, clip: float) -> ReleaseEvent:
    note = f"Mean gradient per subject, clipped to {clip:g}, noised once a step at the site."
    if adjacency is Adjacency.ADD_OR_REMOVE:
        replaced = epsilon_of([phase], delta, Adjacency.REPLACE)
        note += f" Against an attacker who knows how many subjects there are (replace one subject): {replaced:.3g}."
    return training_release([phase], delta=delta, subjects=1, adjacency=adjacency, note=note)


@lru_cache(maxsize=64)
def _of_updates(noise: float, rounds: int, delta: float, release_model: str) -> ReleaseEvent:
    return update_release(noise_multiplier=noise, rounds=rounds, delta=delta, subjects=1, release_model=release_model)
