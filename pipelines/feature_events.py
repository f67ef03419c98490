"""What releases of features, and of sums over them, count for in a site's ledger."""

from medfl.config.privacy import BottleneckStage, GaussianStage
from medfl.config.settings import Config
from medfl.privacy.composition import DpEvent, Gaussian, NonPrivate, SelfComposed
from medfl.privacy.gaussian import analytic_sigma
from medfl.privacy.sampled_gaussian import Adjacency

_SENSITIVITY = 2.0  # in clips, of a subject who is replaced


def features_event(config: Config, adjacency: Adjacency) -> DpEvent:
    """Return what the protected features of all training studies count for.

    How many there are shows who was added or left out, so that only an account for replace-one can hold them.
    """
    noise = config.protection.noise
    if not isinstance(noise, GaussianStage) or adjacency is not Adjacency.REPLACE:
        return NonPrivate()
    sigma = analytic_sigma(noise.epsilon, noise.delta, _SENSITIVITY, noise.studies_per_subject)
    return SelfComposed(Gaussian(sigma), noise.studies_per_subject)


def sums_event(config: Config, adjacency: Adjacency) -> DpEvent:
    """Return what the sums that a bottleneck is learned from count for."""
    stage = config.protection.minimize
    if not isinstance(stage, BottleneckStage) or stage.epsilon is None or adjacency is not Adjacency.REPLACE:
        return NonPrivate()
    return Gaussian(analytic_sigma(stage.epsilon, stage.delta, _SENSITIVITY))


def unproven(adjacency: Adjacency) -> DpEvent:
    """Return what a release without a proof counts for, whatever the account."""
    del adjacency
    return NonPrivate()
