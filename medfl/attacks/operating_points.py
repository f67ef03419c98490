"""What a threshold on pair scores does, and how far scores tell mated pairs from others at all.

Higher scores mean "same person". Everything here counts pairs, not subjects; intervals come from draws of subjects.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

_RULE_OF_30 = 30
_MOST_BINS = 100


def equal_error_rate(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Error rate at which false matches and false non-matches are equally frequent.

    Linear interpolation between the neighboring points of the error trade-off curve.

    Parameters
    ----------
    genuine : array_like of shape (g,)
    impostor : array_like of shape (i,)

    Returns
    -------
    float
        In [0, 1]; 0.5 for guessing, and over 0.5 for worse than guessing.

    Raises
    ------
    ShapeError
        If there are no pairs of a kind or scores are not finite.
    """
    g, i = np.sort(_scores(genuine)), np.sort(_scores(impostor))
    thresholds = np.unique(np.concatenate([g, i]))[::-1]
    accepted = 1 - np.searchsorted(i, thresholds, side="left") / len(i)
    refused = np.searchsorted(g, thresholds, side="left") / len(g)
    far, frr = np.concatenate([[0.0], accepted]), np.concatenate([[1.0], refused])
    after = int(np.argmax(far >= frr))
    gap_before, gap_after = frr[after - 1] - far[after - 1], far[after] - frr[after]
    step = gap_before / (gap_before + gap_after)
    return float(far[after - 1] + step * (far[after] - far[after - 1]))


def tpr_at_fpr(genuine: ArrayLike, impostor: ArrayLike, fpr: float) -> float:
    """Share of genuine pairs over the threshold that at most a share `fpr` of the impostor pairs is over.

    Parameters
    ----------
    genuine : array_like of shape (g,)
    impostor : array_like of shape (i,)
        At least ``30 / fpr`` of them ("rule of 30" of ISO/IEC 19795-1: with fewer than 30 false matches the rate is not
        known to within 30 %).
    fpr : float
        In (0, 1).

    Returns
    -------
    float
        In [0, 1]. Pairs that tie with the threshold are not over it.

    Raises
    ------
    ConfigError
        If `fpr` is out of its range.
    ShapeError
        If there are no pairs of a kind or scores are not finite.
    TooFewSubjectsError
        If there are too few impostor pairs for this rate.
    """
    if not 0 < fpr < 1:
        raise ConfigError(f"fpr must be in (0, 1), got {fpr}.")
    g, i = _scores(genuine), _scores(impostor)
    needed = math.ceil(_RULE_OF_30 / fpr - 1e-9)
    if len(i) < needed:
        raise TooFewSubjectsError(
            f"A false positive rate of {fpr:g} needs at least {needed} impostor pairs, found {len(i)}. "
            "Test on more subjects, or report a higher rate."
        )
    allowed = math.floor(fpr * len(i) + 1e-9)
    threshold = np.partition(i, len(i) - 1 - allowed)[len(i) - 1 - allowed]
    return float((g > threshold).mean())


def d_sys(mated: ArrayLike, non_mated: ArrayLike, *, omega: float = 1.0, bins: int | None = None) -> float:
    """Global linkability of Gomez-Barrero et al. 2018 ("General framework to evaluate unlinkability").

    With ``LR(s) = p(s | mated) / p(s | non-mated)``, the local measure is ``2 omega LR / (1 + omega LR) - 1`` where
    ``omega LR > 1``, else 0; D_sys is its mean over mated scores. Densities are histograms over equal bins, which
    biases D_sys upwards: always report it beside `d_sys_null`.

    Parameters
    ----------
    mated : array_like of shape (g,)
    non_mated : array_like of shape (i,)
    omega : float
        Prior odds of a mated pair, > 0.
    bins : int or None
        At least 2; None takes a tenth of the smaller set, from 2 to 100.

    Returns
    -------
    float
        0 (nothing links) to 1 (every mated pair links).

    Raises
    ------
    ConfigError
        If `omega` or `bins` is out of its range.
    ShapeError
        If there are no pairs of a kind or scores are not finite.
    """
    places, count, mated_count = _binned(mated, non_mated, bins)
    return _linkability(places[:mated_count], places[mated_count:], count, omega)


def d_sys_null(
    mated: ArrayLike,
    non_mated: ArrayLike,
    permutations: int,
    rng: np.random.Generator,
    *,
    omega: float = 1.0,
    bins: int | None = None,
) -> tuple[float, float, float]:
    """D_sys beside what chance alone gives: its values when the labels of the pairs are shuffled.

    Shuffling takes pairs as exchangeable; where subjects have many pairs each, the null is a little too narrow.

    Parameters
    ----------
    mated, non_mated, omega, bins
        As in `d_sys`.
    permutations : int
        At least 1; 200 or more for a stable quantile.
    rng : Generator

    Returns
    -------
    value : float
    null_mean : float
        Subtract it from `value` before comparing systems.
    null_95 : float
        95 % quantile of the null; no more than this is no evidence of linkability.

    Raises
    ------
    ConfigError
        If `omega`, `bins` or `permutations` is out of its range.
    ShapeError
        If there are no pairs of a kind or scores are not finite.
    """
    if permutations < 1:
        raise ConfigError(f"permutations must be at least 1, got {permutations}.")
    places, count, cut = _binned(mated, non_mated, bins)
    value = _linkability(places[:cut], places[cut:], count, omega)
    null = np.empty(permutations)
    for number in range(permutations):
        shuffled = rng.permutation(places)
        null[number] = _linkability(shuffled[:cut], shuffled[cut:], count, omega)
    return value, float(null.mean()), float(np.quantile(null, 0.95))


def _binned(mated: ArrayLike, non_mated: ArrayLike, bins: int | None) -> tuple[NDArray[np.int64], int, int]:
    """Return the bin of every score, mated ones first, the number of bins and the number of mated scores."""
    one, other = _scores(mated), _scores(non_mated)
    count = min(_MOST_BINS, max(2, min(len(one), len(other)) // 10)) if bins is None else bins
    if count < 2:
        raise ConfigError(f"bins must be at least 2, got {count}.")
    scores = np.concatenate([one, other])
    low, high = scores.min(), scores.max()
    if low == high:
        return np.zeros(len(scores), np.int64), count, len(one)
    return np.minimum(((scores - low) / (high - low) * count).astype(np.int64), count - 1), count, len(one)


def _linkability(mated: NDArray[np.int64], non_mated: NDArray[np.int64], count: int, omega: float) -> float:
    if not (math.isfinite(omega) and omega > 0):
        raise ConfigError(f"omega must be finite and > 0, got {omega}.")
    p = np.bincount(mated, minlength=count) / len(mated)
    q = np.bincount(non_mated, minlength=count) / len(non_mated)
    filled = p > 0
    local = (omega * p[filled] - q[filled]) / (omega * p[filled] + q[filled])
    return float(p[filled] @ np.maximum(local, 0.0))


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ShapeError(f"scores must be finite, one per pair, at least one pair; found shape {scores.shape}.")
    return scores
