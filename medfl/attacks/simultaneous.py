"""Intervals that hold for all arms together, so that the worst of several attacks may be picked afterwards."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

_MOST_UNDEFINED = 0.1


def max_t_bounds(
    observed: ArrayLike, draws: ArrayLike, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided bounds ``observed -+ c * sd`` that hold for all arms at once with probability `level`.

    The half-width c is the `level` quantile, over draws, of the largest ``|draw - observed| / sd`` of any arm (max-t,
    Westfall and Young 1993), so arms that move together cost little.

    Parameters
    ----------
    observed : array_like of shape (arms,)
        Finite.
    draws : array_like of shape (n, arms)
        Under the same draws of subjects for all arms, as `medfl.attacks.statistics.resampled_aucs` gives them; rows
        with NaN are left out.
    level : float
        In (0, 1).

    Returns
    -------
    low, high : ndarray of shape (arms,)
        Not cut to [0, 1]. An arm whose draws never move has a bound of no width.

    Raises
    ------
    ConfigError
        If `level` is out of its range.
    ShapeError
        If shapes do not fit.
    TooFewSubjectsError
        If more than a tenth of the draws is undefined, or fewer than two are left.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must be in (0, 1), got {level}.")
    center, table = np.asarray(observed, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    if center.ndim != 1 or not len(center) or table.ndim != 2 or table.shape[1] != len(center):
        raise ShapeError(
            f"draws must be of shape (n, arms) and observed of shape (arms,), found {table.shape} and {center.shape}."
        )
    if not np.isfinite(center).all():
        raise ShapeError("observed must be finite in every arm.")
    defined = table[np.isfinite(table).all(axis=1)]
    if len(defined) < max(2, (1 - _MOST_UNDEFINED) * len(table)):
        raise TooFewSubjectsError(
            f"Bounds need at least two draws, and nine of ten defined in every arm; {len(defined)} of {len(table)} "
            "were. Test on more subjects with two or more images."
        )
    sd = defined.std(axis=0, ddof=1)
    moved = np.abs(defined - center)
    t = np.divide(moved, sd, out=np.zeros_like(moved), where=sd > 0).max(axis=1)
    half = np.quantile(t, level) * sd
    return center - half, center + half
