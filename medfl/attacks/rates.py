"""Exact intervals of rates, p-values of several tests, and what a test of so many subjects can find.

The intervals hold for independent trials, such as one trial per subject. Several trials of one subject are not
independent: `medfl.attacks.identification.cluster_bootstrap_rate` draws subjects instead.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from medfl.errors import ConfigError, ShapeError


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a rate (Clopper and Pearson 1934); never covers less than `level`.

    Parameters
    ----------
    successes : int
        In [0, trials].
    trials : int
        Independent ones, at least 1.
    level : float
        In (0, 1).

    Returns
    -------
    (float, float)
        In [0, 1].

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    return _proportion(successes, trials, level, "exact")


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a rate (Wilson 1927); covers `level` on average, and is narrower than `clopper_pearson`.

    Parameters, result and errors are those of `clopper_pearson`.
    """
    return _proportion(successes, trials, level, "wilson")


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values so that they hold for all tests together (Holm 1979), whatever their dependence.

    Parameters
    ----------
    p_values : array_like of shape (m,)
        In [0, 1], at least one.

    Returns
    -------
    ndarray of shape (m,)
        In [0, 1], in the order given; a test with an adjusted value under 0.05 is a finding at 5 %.

    Raises
    ------
    ShapeError
        If values are missing or out of range.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ShapeError(f"p-values must be at least one number in [0, 1] each, found shape {values.shape}.")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def minimum_detectable_auc(subject_bootstrap_sd: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """Smallest true area above 0.5 that a one-sided test against 0.5 finds with this power.

    Normal approximation ``0.5 + (z_level + z_power) * sd``, at most 1. An attack that found nothing rules out no area
    under this one.

    Parameters
    ----------
    subject_bootstrap_sd : float
        Standard deviation of the area over draws of subjects, > 0.
    power, level : float
        In (0, 1).

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    _check_positive("subject_bootstrap_sd", subject_bootstrap_sd)
    reach = (_normal_quantile("level", level) + _normal_quantile("power", power)) * subject_bootstrap_sd
    return float(min(1.0, max(0.0, 0.5 + reach)))


def subjects_for_margin(sd: float, subjects: int, margin_distance: float, *, power: float = 0.8) -> int:
    """Subjects that a one-sided 95 % verdict "on this side of the margin" needs, with this power.

    Standard deviations fall as one over the square root of the number of subjects, so
    ``n = subjects * ((z_0.95 + z_power) * sd / margin_distance) ** 2``.

    Parameters
    ----------
    sd : float
        Standard deviation over draws of subjects, > 0, found with `subjects` subjects.
    subjects : int
        At least 1.
    margin_distance : float
        From the true value to the margin, > 0, in the unit of `sd`.
    power : float
        In [0.5, 1).

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    _check_positive("sd", sd)
    _check_positive("margin_distance", margin_distance)
    if subjects < 1:
        raise ConfigError(f"subjects must be at least 1, got {subjects}.")
    if power < 0.5:
        raise ConfigError(f"power must be in [0.5, 1), got {power}.")
    reach = (_normal_quantile("level", 0.95) + _normal_quantile("power", power)) * sd
    return max(1, math.ceil(subjects * (reach / margin_distance) ** 2))


def _proportion(successes: int, trials: int, level: float, method: Literal["exact", "wilson"]) -> tuple[float, float]:
    if trials < 1 or not 0 <= successes <= trials:
        raise ConfigError(f"successes must be in [0, trials] and trials >= 1, got {successes} of {trials}.")
    _normal_quantile("level", level)
    found = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence_level=level, method=method)
    return float(found.low), float(found.high)


def _normal_quantile(name: str, share: float) -> float:
    if not 0 < share < 1:
        raise ConfigError(f"{name} must be in (0, 1), got {share}.")
    return float(stats.norm.ppf(share))


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be finite and > 0, got {value}.")


def no_narrower_than_exact(value: float, low: float, high: float, trials: int) -> tuple[float, float]:
    """Widen a bootstrap interval of a rate to the exact one of so many independent trials where that is wider.

    A bootstrap of nothing but failures, or nothing but hits, has no width at all; the exact interval has.

    Parameters
    ----------
    value, low, high : float
        A rate and its interval, in [0, 1].
    trials : int
        Independent ones, so subjects and not images; at least 1.
    """
    exact = clopper_pearson(round(value * trials), trials)
    return min(low, exact[0]), max(high, exact[1])
