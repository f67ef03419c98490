"""How precisely a sum over a site's subjects may leave the site.

A sum over n subjects is one equation with n unknowns, which sounds safe and is not always. Three attacks work on
exact sums (each is a positive control in ``tests/evaluation/test_metrics_channel.py``) and set the rules here:

* **few contributors**: if all subjects but a few sit at a known value (Dice 0, surface Dice 1), the sum gives away
  the few. So the subjects away from either end of the range must be none or at least the minimum, and the largest may
  not stand alone (the p-percent rule of official statistics, p = 20).
* **small alphabets**: a Hausdorff distance on a voxel grid is the square root of an integer, square roots of
  different square-free integers are linearly independent over the rationals, so one exact sum spells out every
  single distance. Dice is a ratio of two small integers: a meet-in-the-middle search finds the addends when
  there are few subjects.
* **power sums**: exact sums of x, x**2, x/(2 - x), ... of the same n values are n equations for n unknowns. So
  second moments leave with about three significant bits, which is plenty for an interval.

Where a rule fails the sum still leaves, rounded to a step that is printed as the metric's error bound.

What no rule for a single release can prevent: the same model measured twice, with and without one subject, shows that
subject in the difference. So a site measures one model on one fixed set of subjects, once. Counts of categories
(missed organs, right and wrong predictions) say how many subjects are in them, and if that is all or none, which.
"""

import math

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ConfigError

MIN_SUBJECTS = 5
FINE_STEP = 2.0**-30
COARSE_SHARE = 2.0**-8
COARSE_VOXEL_SHARE = 2.0**-6
MIN_SEARCH_BITS = 60.0
_REST_SHARE = 0.2
_SPREAD_STEPS_PER_OCTAVE = 8
_CORRELATION_STEP = 0.25


def check_min_subjects(min_subjects: int) -> None:
    """Refuse a minimum under which a sum could describe one subject.

    Parameters
    ----------
    min_subjects : int
        Smallest number of subjects that a number may describe.

    Raises
    ------
    ConfigError
        If it is below 3.
    """
    if min_subjects < 3:
        raise ConfigError(f"min_subjects must be at least 3, got {min_subjects}.")


def is_spread_out(amounts: NDArray[np.float64], min_subjects: int) -> bool:
    """Say whether a sum of non-negative amounts hides every single one.

    Parameters
    ----------
    amounts : ndarray of shape (n,)
        One amount per subject, >= 0.
    min_subjects : int
        Smallest allowed number of subjects with an amount above 0, unless there are none.

    Returns
    -------
    bool
        True if nobody contributes, or at least `min_subjects` do and all but the largest add up to at least a fifth
        of the largest.
    """
    if len(amounts) == 0:
        return True
    contributors = int(np.count_nonzero(amounts > 1e-9))
    if contributors == 0:
        return True
    largest = float(amounts.max())
    return contributors >= min_subjects and float(amounts.sum()) - largest >= _REST_SHARE * largest


def search_bits(n_subjects: int, states: float) -> float:
    """Cost of a meet-in-the-middle search for the addends of an exact sum.

    Parameters
    ----------
    n_subjects : int
        Number of addends.
    states : float
        Number of different values one addend can take.

    Returns
    -------
    float
        log2 of the number of partial sums the search has to list.
    """
    return 0.5 * n_subjects * math.log2(max(states, 1.0))


def dyadic_step(step: float) -> float:
    """Round a step up to a power of two, so that rounded totals add without error.

    Parameters
    ----------
    step : float
        > 0.
    """
    return float(2.0 ** math.ceil(math.log2(step)))


def score_step(
    sums: NDArray[np.float64], ceilings: NDArray[np.float64], *, states: float, min_subjects: int, unit: float = 1.0
) -> float:
    """Choose the rounding step for a total of per-study scores.

    Parameters
    ----------
    sums : ndarray of shape (n,)
        Per subject, the sum over its studies.
    ceilings : ndarray of shape (n,)
        Largest value each sum could have; infinity for lengths.
    states : float
        Number of different values one subject's sum can take.
    min_subjects : int
        The site's minimum.
    unit : float
        Size of one unit of the score: the coarse step keeps the mean over subjects within `unit` / 256.

    Returns
    -------
    float
        `FINE_STEP` if the total hides every subject, else a coarse step.
    """
    hidden = is_spread_out(sums, min_subjects) and search_bits(len(sums), states) >= MIN_SEARCH_BITS
    bounded = np.isfinite(ceilings)
    if hidden and bounded.all():
        hidden = is_spread_out(np.maximum(ceilings - sums, 0.0), min_subjects)
    return FINE_STEP if hidden else coarse_step(len(sums), unit=unit)


def coarse_step(n_subjects: int, *, unit: float) -> float:
    """Step that keeps a mean over `n_subjects` within about `unit` / 256.

    Parameters
    ----------
    n_subjects : int
        >= 1.
    unit : float
        Size of one unit of the measure.
    """
    return dyadic_step(n_subjects * unit * COARSE_SHARE)


def voxel_step(sums: NDArray[np.float64], *, scale: float, min_subjects: int) -> float:
    """Choose the rounding step for a total of voxel counts.

    Parameters
    ----------
    sums : ndarray of shape (n,)
        Voxels per subject.
    scale : float
        All counted voxels of the class at the site; the coarse step is about a 64th of it.
    min_subjects : int
        The site's minimum.

    Returns
    -------
    float
        0 (exact integers) or a power of two.
    """
    return 0.0 if is_spread_out(sums, min_subjects) else dyadic_step(max(scale * COARSE_VOXEL_SHARE, 1.0))


def round_to(values: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round each value to a multiple of its step; a step of 0 leaves it alone.

    Parameters
    ----------
    values, steps : ndarray of shape (k,)
    """
    safe = np.where(steps > 0, steps, 1.0)
    return np.where(steps > 0, np.rint(values / safe) * safe, values)


def coarsen_covariance(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep of a covariance what an interval needs: spreads within 9 %, correlations within 1/8.

    Standard deviations are rounded up to the next power of 2**(1/8); correlations to multiples of 1/4, then the
    nearest positive semidefinite matrix with at least these variances is taken.

    Parameters
    ----------
    covariance : ndarray of shape (k, k)

    Returns
    -------
    ndarray of shape (k, k)
        A function of the rounded numbers alone: projecting adds no information.
    """
    spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    positive = spread > 1e-9
    safe = np.where(positive, spread, 1.0)
    exponent = np.ceil(np.log2(safe) * _SPREAD_STEPS_PER_OCTAVE - 1e-9) / _SPREAD_STEPS_PER_OCTAVE
    rounded = np.where(positive, 2.0**exponent, 0.0)
    correlation = np.clip(covariance / np.outer(safe, safe), -1.0, 1.0)
    correlation = np.rint(correlation / _CORRELATION_STEP) * _CORRELATION_STEP
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    correlation = (vectors * np.maximum(values, 0.0)) @ vectors.T
    result = correlation * np.outer(rounded, rounded)
    return np.asarray((result + result.T) / 2, dtype=np.float64)
