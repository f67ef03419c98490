"""Intervals from moments: the hub resamples, the sites do not."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError
from medfl.evaluation.measures import MeasureBlock

LEVEL = 0.95
DRAWS = 4000
Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def resample_totals(blocks: Sequence[MeasureBlock], draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw pooled totals as the subject bootstrap would, from the sites' first two moments.

    Each site's totals are drawn from its own multivariate t distribution with n - 1 degrees of freedom, then added:
    for one site and one mean this is the t interval, for several it is the fiducial answer to unequal variances.
    Draws come in mirrored pairs, so their mean is the totals themselves.

    Parameters
    ----------
    blocks : sequence of MeasureBlock
        One per site, unmerged, at least 2 subjects each (or none).
    draws : int
        Even number of draws.
    generator : Generator

    Returns
    -------
    ndarray of shape (draws, k)

    Raises
    ------
    ShapeError
        If there is no block, the columns differ, `draws` is odd, or a site has one subject.
    """
    if not blocks or len({block.names for block in blocks}) != 1:
        raise ShapeError("resampling needs at least one block, and the same columns in all of them.")
    if draws < 2 or draws % 2:
        raise ShapeError(f"draws must be even and at least 2, got {draws}.")
    if any(block.n_subjects == 1 for block in blocks):
        raise ShapeError("resampling needs at least two subjects per site.")
    k = len(blocks[0].names)
    total = np.sum([block.totals for block in blocks], axis=0)
    moved = np.zeros((draws // 2, k))
    for block in blocks:
        if block.n_subjects == 0:
            continue
        values, vectors = np.linalg.eigh(block.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        degrees = block.n_subjects - block.n_sites
        scale = np.sqrt(generator.chisquare(degrees, size=(draws // 2, 1)) / degrees)
        moved += generator.standard_normal((draws // 2, k)) @ root.T / scale
    return np.concatenate([total + moved, total - moved])


def interval(
    metric: Metric, blocks: Sequence[MeasureBlock], *, seed: int, draws: int = DRAWS, level: float = LEVEL
) -> tuple[float, float] | None:
    """Percentile interval of any metric of the pooled totals.

    Parameters
    ----------
    metric : callable
        Maps totals of shape (draws, k) to values of shape (draws,).
    blocks : sequence of MeasureBlock
        One per site.
    seed : int
        Equal seeds give equal intervals.
    draws : int
        Even.
    level : float
        In (0, 1).

    Returns
    -------
    (float, float) or None
        None where a site has a single subject or nobody has any.
    """
    if any(block.n_subjects == 1 for block in blocks) or not any(block.n_subjects for block in blocks):
        return None
    return percentiles(metric(resample_totals(blocks, draws, np.random.default_rng(seed))), level=level)


def percentiles(values: NDArray[np.float64], *, level: float = LEVEL) -> tuple[float, float] | None:
    """Central interval of draws.

    Parameters
    ----------
    values : ndarray of shape (draws,)
    level : float
        In (0, 1).

    Returns
    -------
    (float, float) or None
        None if a draw is not finite.
    """
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio_of_totals(totals: NDArray[np.float64], *, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratio of the first to the second column, linear around the pooled totals.

    The plain ratio of two draws has no mean when the weight may come near 0; to first order both agree.

    Parameters
    ----------
    totals : ndarray of shape (draws, 2)
    pooled : ndarray of shape (2,)
        The pooled totals; the weight must be > 0.

    Returns
    -------
    ndarray of shape (draws,)
    """
    ratio = pooled[0] / pooled[1]
    return np.asarray(ratio + (totals[:, 0] - ratio * totals[:, 1]) / pooled[1])
