"""Every pair of epsilon and delta that the steps of DP-SGD keep to, rather than one of them: what an audit tests."""

import math
from collections.abc import Sequence

import numpy as np
from dp_accounting import ComposedDpEvent, NeighboringRelation
from dp_accounting.pld import PLDAccountant
from numpy.typing import ArrayLike, NDArray

from medfl.errors import ConfigError
from medfl.privacy.sampled_gaussian import SampledGaussian

_DRIFT, _FINEST = 0.05, 1e-3  # rounding of the loss times the root of the number of steps; largest rounding


def privacy_curve(phases: Sequence[SampledGaussian], epsilons: ArrayLike) -> NDArray[np.float64]:
    """Return the delta that goes with each epsilon, for adding or removing one subject.

    From dp-accounting's privacy loss distribution, rounded so that no delta is too small.

    Parameters
    ----------
    phases : sequence of SampledGaussian
        At least one.
    epsilons : array_like of shape (n,)
        >= 0.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1].

    Raises
    ------
    ConfigError
        If there is no phase, or an epsilon is negative or not finite.
    """
    values = np.atleast_1d(np.asarray(epsilons, dtype=np.float64))
    if not phases or not (np.isfinite(values) & (values >= 0)).all():
        raise ConfigError("a privacy curve needs at least one phase, and every epsilon finite and >= 0.")
    steps = sum(phase.steps for phase in phases)
    interval = min(_FINEST, _DRIFT / math.sqrt(steps))
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    accountant.compose(ComposedDpEvent([phase.event() for phase in phases]))
    return np.array([accountant.get_delta(float(value)) for value in values])
