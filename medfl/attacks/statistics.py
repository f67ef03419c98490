"""Areas under the curve of pair scores, with intervals that know which pairs share a subject.

Pairs of one subject are not independent: resampling pairs makes intervals far too narrow where subjects differ. Here
subjects are drawn, with counts k; a genuine pair of subject i then weighs k_i, an impostor pair of i and j k_i * k_j
(the subsets bootstrap of Bolle, Ratha and Pankanti 2004).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from medfl.errors import ShapeError, TooFewSubjectsError

LEVEL = 0.95
_MOST_UNDEFINED = 0.1
_BATCH = 64
_BLOCK = 1024
_MOST_FLOAT32 = 128  # 1024 products of two such counts still add up exactly: 2 ** 10 * 2 ** 14 = 2 ** 24
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


@dataclass(frozen=True)
class AucInterval:
    """An area, or a difference of two, with its interval.

    Attributes
    ----------
    value : float
        In [0, 1]; a difference in [-1, 1].
    low, high : float
        95 % percentile interval over draws of subjects.
    genuine_pairs, impostor_pairs : int
    subjects : int
        Distinct ones in the pairs.
    """

    value: float
    low: float
    high: float
    genuine_pairs: int
    impostor_pairs: int
    subjects: int


def auc(
    genuine: ArrayLike,
    impostor: ArrayLike,
    genuine_weights: ArrayLike | None = None,
    impostor_weights: ArrayLike | None = None,
) -> float:
    """Probability that a genuine pair scores higher than an impostor pair; a tie counts one half (Mann-Whitney).

    Parameters
    ----------
    genuine : array_like of shape (g,)
        Finite scores, higher means "same person".
    impostor : array_like of shape (i,)
    genuine_weights, impostor_weights : array_like of the same shapes, or None
        >= 0, not all zero; None counts every pair once.

    Returns
    -------
    float
        In [0, 1]; a value under 0.5 is reported as it is.

    Raises
    ------
    ShapeError
        If there are no pairs of a kind, scores are not finite, or weights do not fit.
    """
    g, i = _scores(genuine), _scores(impostor)
    g_weights, i_weights = _weights(genuine_weights, g), _weights(impostor_weights, i)
    order = np.argsort(i, kind="stable")
    below = _half_ranks(np.concatenate([[0.0], np.cumsum(i_weights[order])]), i[order], g)
    return float(g_weights @ below / (g_weights.sum() * i_weights.sum()))


def above_chance(area: float) -> float:
    """Above-chance signal ``2 * AUC - 1``: 0 for guessing, 1 for certainty, negative for worse than guessing."""
    return 2 * area - 1


def resampled_aucs(
    scores: ArrayLike, first_subject: ArrayLike, second_subject: ArrayLike, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Areas of one or more arms under the same draws of subjects.

    Parameters
    ----------
    scores : array_like of shape (arms, m)
        Each arm's scores of the same pairs.
    first_subject, second_subject : array_like of shape (m,)
        Subjects of each pair; a pair is genuine where they are equal.
    draws : int
        At least 1.
    rng : Generator

    Returns
    -------
    ndarray of shape (draws, arms)
        NaN in draws that hold no genuine or no impostor pair.

    Raises
    ------
    ShapeError
        If shapes do not fit or a kind of pair is missing.
    """
    table, first, second = _pairs(np.asarray(scores), first_subject, second_subject)
    if draws < 1:
        raise ShapeError(f"draws must be at least 1, got {draws}.")
    same = first == second
    count = int(max(first.max(), second.max())) + 1
    arms = [_Segments.of(row, first, second, same) for row in table]
    areas = np.full((draws, len(table)), np.nan)
    for start in range(0, draws, _BATCH):
        batch = slice(start, min(start + _BATCH, draws))
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=batch.stop - start)
        counts = np.ascontiguousarray(drawn.T, dtype=np.float64)
        genuine = counts[first[same]]
        for arm, segments in enumerate(arms):
            running = segments.running(counts)
            total = genuine.sum(axis=0) * running[-1]
            won = np.einsum("gd,gd->d", genuine, running[segments.left] + running[segments.right])
            areas[batch, arm] = np.divide(won, 2 * total, out=np.full(len(total), np.nan), where=total > 0)
    return areas


@dataclass(frozen=True, eq=False)
class _Segments:
    """Impostor pairs by rising score, cut wherever a genuine score lies and after every `_BLOCK` pairs.

    Only the weight of whole segments matters to the area, and weights are whole numbers, so sums are exact.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    cuts: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def of(
        cls, scores: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64], same: NDArray[np.bool_]
    ) -> "_Segments":
        impostors = np.flatnonzero(~same)
        impostors = impostors[np.argsort(scores[impostors], kind="stable")]
        left, right = (np.searchsorted(scores[impostors], scores[same], side=side) for side in _SIDES)
        end = len(impostors)
        cuts = np.unique(np.concatenate([left, right, np.arange(0, end, _BLOCK), [end]]))
        return cls(first[impostors], second[impostors], cuts, np.searchsorted(cuts, left), np.searchsorted(cuts, right))

    def running(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weight of impostors under each cut, (cuts, d), for counts (subjects, d)."""
        weights = np.zeros((len(self.cuts), counts.shape[1]))
        exact = np.float32 if counts.max() <= _MOST_FLOAT32 else np.float64
        table = counts.astype(exact)
        buffers = np.empty((2, min(_BLOCK, len(self.one)), counts.shape[1]), dtype=exact)
        for start in range(0, len(self.one), _BLOCK):
            stop = min(start + _BLOCK, len(self.one))
            one, other = buffers[:, : stop - start]
            np.take(table, self.one[start:stop], axis=0, out=one, mode="clip")
            np.take(table, self.other[start:stop], axis=0, out=other, mode="clip")
            one *= other
            low, high = np.searchsorted(self.cuts, (start, stop))
            members = (np.ones(stop - start, exact), np.arange(stop - start), self.cuts[low : high + 1] - start)
            weights[low + 1 : high + 1] = sparse.csr_array(members, shape=(high - low, stop - start)) @ one
        return np.cumsum(weights, axis=0, out=weights)


def cluster_bootstrap_auc(
    scores: ArrayLike, first_subject: ArrayLike, second_subject: ArrayLike, draws: int, rng: np.random.Generator
) -> AucInterval:
    """Area of one attacker with the interval of a bootstrap over subjects.

    Parameters
    ----------
    scores : array_like of shape (m,)
        One per pair, higher means "same person".
    first_subject, second_subject : array_like of shape (m,)
        Subjects of each pair; a pair is genuine where they are equal.
    draws : int
        1,000 or more for a stable interval.
    rng : Generator

    Returns
    -------
    AucInterval

    Raises
    ------
    ShapeError
        If shapes do not fit or a kind of pair is missing.
    TooFewSubjectsError
        If more than a tenth of the draws hold no pair of a kind.
    """
    row = np.asarray(scores)[None]
    areas = resampled_aucs(row, first_subject, second_subject, draws, rng)[:, 0]
    return _interval(_observed(row, first_subject, second_subject)[0], areas, first_subject, second_subject)


def cluster_bootstrap_difference(
    scores: ArrayLike,
    other_scores: ArrayLike,
    first_subject: ArrayLike,
    second_subject: ArrayLike,
    draws: int,
    rng: np.random.Generator,
) -> AucInterval:
    """Area of `scores` minus area of `other_scores`, both on the same pairs and the same draws of subjects.

    Parameters and errors are those of `cluster_bootstrap_auc`.

    Returns
    -------
    AucInterval
        Value and limits in [-1, 1].
    """
    table = _stacked(scores, other_scores)
    areas = resampled_aucs(table, first_subject, second_subject, draws, rng)
    value = _observed(table, first_subject, second_subject)
    return _interval(value[0] - value[1], areas[:, 0] - areas[:, 1], first_subject, second_subject)


def _stacked(scores: ArrayLike, other_scores: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(scores), np.asarray(other_scores)
    if one.shape != other.shape:
        raise ShapeError(f"both arms must score the same pairs, found shapes {one.shape} and {other.shape}.")
    return np.stack([one, other])


def _interval(
    value: float, draws: NDArray[np.float64], first_subject: ArrayLike, second_subject: ArrayLike
) -> AucInterval:
    defined = draws[~np.isnan(draws)]
    if len(defined) < (1 - _MOST_UNDEFINED) * len(draws):
        raise TooFewSubjectsError(
            f"An interval needs pairs of both kinds in nearly every draw of subjects; {len(draws) - len(defined)} of "
            f"{len(draws)} draws had none. Test on more subjects with two or more images."
        )
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    first, second = np.asarray(first_subject), np.asarray(second_subject)
    genuine = int((first == second).sum())
    subjects = len(np.unique(np.concatenate([first, second])))
    return AucInterval(float(value), float(low), float(high), genuine, len(first) - genuine, subjects)


def _observed(scores: NDArray[np.float64], first_subject: ArrayLike, second_subject: ArrayLike) -> NDArray[np.float64]:
    same = np.asarray(first_subject) == np.asarray(second_subject)
    return np.array([auc(row[same], row[~same]) for row in scores])


def _half_ranks(
    running: NDArray[np.float64], impostor: NDArray[np.float64], genuine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weight of impostors under each genuine score, ties at one half; `impostor` is sorted."""
    left = np.searchsorted(impostor, genuine, side="left")
    right = np.searchsorted(impostor, genuine, side="right")
    return (running[left] + running[right]) / 2


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ShapeError(f"scores must be finite, one per pair, at least one pair; found shape {scores.shape}.")
    return scores


def _weights(values: ArrayLike | None, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if values is None:
        return np.ones(len(scores))
    weights = np.asarray(values, dtype=np.float64)
    if weights.shape != scores.shape or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ShapeError(f"weights must be finite, >= 0, not all zero and of shape {scores.shape}.")
    return weights


def _pairs(
    scores: NDArray[np.float64], first_subject: ArrayLike, second_subject: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Check scores (arms, m), and number the subjects from 0."""
    first, second = np.asarray(first_subject), np.asarray(second_subject)
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or first.shape != second.shape or first.shape != table.shape[1:] or not np.isfinite(table).all():
        raise ShapeError(
            f"every pair needs one finite score per arm and two subjects; found scores of shape {table.shape}, "
            f"subjects of shapes {first.shape} and {second.shape}."
        )
    same = first == second
    if not same.any() or same.all():
        raise ShapeError("pairs must hold at least one genuine and one impostor pair.")
    numbers = np.unique(np.concatenate([first, second]), return_inverse=True)[1].astype(np.int64)
    return table, numbers[: len(first)], numbers[len(first) :]
