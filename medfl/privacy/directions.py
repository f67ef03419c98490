"""Which directions of the features the task needs, from sums alone.

Channels are divided by their standard deviation and projected on the leading principal components; there partial least
squares or linear discriminants give k directions. Everything follows from class sums and cross products that add up
over sites, so a federation finds the directions of the pooled data without pooling anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.class_sums import ClassSums

SHRINKAGE = 0.1
_CONSTANT = 1e-12  # a channel whose variance is this small against its second moment does not vary
_RANK = 1e-10  # principal components below this share of the largest are rounding
_EXHAUSTED = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Directions:
    """A linear map from C channels to k scores, ``matrix @ (x - mean)``.

    Attributes
    ----------
    mean : ndarray of shape (C,), float64
    matrix : ndarray of shape (k, C), float64
        Scaled so that every score has unit variance on the population it was fitted to. The largest entry of each row
        is positive.

    Raises
    ------
    ShapeError
        If the shapes do not fit, or a number is not finite.
    """

    mean: Array
    matrix: Array

    def __post_init__(self) -> None:
        """Check shapes and finiteness."""
        if self.mean.ndim != 1 or self.matrix.ndim != 2 or self.matrix.shape[1] != len(self.mean):
            raise ShapeError(f"directions must hold (C,) and (k, C), found {self.mean.shape} and {self.matrix.shape}.")
        if self.mean.dtype != np.float64 or self.matrix.dtype != np.float64:
            raise ShapeError("directions must be float64.")
        if not (len(self.matrix) and np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise ShapeError("directions must be at least one, and finite.")

    def scores(self, features: Array) -> Array:
        """Return the scores (n, k) of features (n, C)."""
        return np.asarray((features - self.mean) @ self.matrix.T)

    def first(self, k: int) -> "Directions":
        """Return the k leading directions: what `fit_directions` finds for this k, without fitting again.

        Raises
        ------
        ConfigError
            If there are fewer than k.
        """
        if not 1 <= k <= len(self.matrix):
            raise ConfigError(f"k must be 1 to {len(self.matrix)}, found {k}.")
        return Directions(self.mean, self.matrix[:k])

    def to_arrays(self) -> dict[str, Array]:
        """Return "mean" and "matrix"."""
        return {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "Directions":
        """Build them from arrays that came over the wire.

        Raises
        ------
        ShapeError
            If the names, shapes or types are others, or a number is not finite.
        """
        if set(arrays) != {"mean", "matrix"}:
            raise ShapeError(f"directions are the two arrays 'mean' and 'matrix', found {len(arrays)} arrays.")
        if any(array.dtype != np.float64 for array in arrays.values()):
            raise ShapeError("directions must be float64.")
        return cls(np.asarray(arrays["mean"], dtype=np.float64), np.asarray(arrays["matrix"], dtype=np.float64))


def fit_directions(
    sums: ClassSums,
    k: int,
    *,
    method: Literal["pls", "lda"] = "pls",
    components: int = 256,
    shrinkage: float = SHRINKAGE,
) -> Directions:
    """Find the k directions that tell classes apart, from sums over all sites.

    "pls": partial least squares of the classes (one column per class that occurs, centered) on whitened principal
    components, with the deflation of NIPALS (algorithm 2 of Dayal and MacGregor 1997, which needs cross products only).
    "lda": the leading discriminants between classes against the covariance within them; class means weigh by size.

    Parameters
    ----------
    sums : ClassSums
    k : int
        At least 1; at most the rank of the features ("pls") or the number of classes that occur minus one ("lda").
    method : {"pls", "lda"}
    components : int
        Leading principal components that are kept.
    shrinkage : float
        In [0, 1]. "pls": whitening divides by the root of (1 - s) * variance + s * mean variance; with 0 all kept
        components get unit variance and, as for "lda", no more directions than classes minus one exist. "lda": the
        covariance within classes moves that far towards a multiple of the identity (Friedman 1989).

    Returns
    -------
    Directions

    Raises
    ------
    ConfigError
        If a setting is out of range, fewer than two classes occur, no channel varies, or k is larger than possible.
    """
    if k < 1 or components < 1 or not 0 <= shrinkage <= 1 or method not in ("pls", "lda"):
        raise ConfigError(
            "directions need k >= 1, components >= 1, shrinkage in [0, 1] and method 'pls' or 'lda'; "
            f"found {k}, {components}, {shrinkage:g} and {method!r}."
        )
    present = sums.counts > 0
    if present.sum() < 2:
        raise ConfigError(f"directions need at least two classes that occur, found {int(present.sum())}.")
    n = float(sums.counts.sum())
    mean = sums.sums[present].sum(axis=0) / n
    variances, axes = _principal_axes(sums.cross / n - np.outer(mean, mean), np.diag(sums.cross) / n, components)
    shares = sums.counts[present] / n
    offsets = (sums.sums[present] / n - shares[:, None] * mean) @ axes  # (K, p): mean of (x - mean) * [class]
    if method == "pls":
        rows = _least_squares(variances, offsets, k, shrinkage)
    else:
        rows = _discriminants(variances, offsets, shares, k, shrinkage)
    rows = rows / np.sqrt((rows**2) @ variances)[:, None]
    matrix = rows @ axes.T
    largest = matrix[np.arange(k), np.abs(matrix).argmax(axis=1)]
    return Directions(mean, matrix * np.sign(largest)[:, None])


def choose_k(candidates: Sequence[int], scores: Sequence[float], *, tolerance: float = 0.005) -> int:
    """Return the smallest candidate whose validation score is within `tolerance` of the best one.

    Parameters
    ----------
    candidates : sequence of int
    scores : sequence of float
        One each, larger is better; what is not finite never wins.
    tolerance : float
        >= 0, in the unit of the scores.

    Raises
    ------
    ConfigError
        If there is no candidate, the lengths differ, the tolerance is negative, or no score is finite.
    """
    if not candidates or len(candidates) != len(scores) or not tolerance >= 0:
        raise ConfigError("choosing k needs one score per candidate, at least one, and a tolerance >= 0.")
    finite = {k: score for k, score in zip(candidates, scores, strict=True) if np.isfinite(score)}
    if not finite:
        raise ConfigError("choosing k needs at least one finite score.")
    best = max(finite.values())
    return min(k for k, score in finite.items() if score >= best - tolerance)


def _principal_axes(covariance: Array, second_moments: Array, components: int) -> tuple[Array, Array]:
    """Return variances (p,), falling, and axes (C, p) of standardized channels: scores are ``(x - mean) @ axes``."""
    deviation = np.diag(covariance)
    varies = deviation > _CONSTANT * second_moments
    if not varies.any():
        raise ConfigError("directions need at least one channel that varies.")
    scale = np.sqrt(deviation[varies])
    count = len(scale)
    correlation = covariance[np.ix_(varies, varies)] / np.outer(scale, scale)
    kept = min(components, count)
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    real = values > _RANK * values[0]
    axes = np.zeros((len(covariance), int(real.sum())))
    axes[varies] = vectors[:, real] / scale[:, None]
    return values[real], axes


def _least_squares(variances: Array, offsets: Array, k: int, shrinkage: float) -> Array:
    """Return PLS directions (k, p) in the principal components."""
    whitening = 1.0 / np.sqrt((1 - shrinkage) * variances + shrinkage * variances.mean())
    spread = variances * whitening**2  # X'X / n, diagonal
    shared = (offsets * whitening).T  # X'Y / n, (p, K)
    start = float(np.linalg.norm(shared))
    rows: list[Array] = []
    loadings: list[Array] = []
    for number in range(k):
        if number == len(variances) or float(np.linalg.norm(shared)) <= _EXHAUSTED * max(start, _EXHAUSTED):
            raise ConfigError(f"{k} directions are more than the features have to tell classes apart: {number}.")
        weight = np.linalg.svd(shared, full_matrices=False)[0][:, 0]
        row = weight.copy()
        for loading, earlier in zip(loadings, rows, strict=True):
            row -= (loading @ weight) * earlier
        size = float(row**2 @ spread)
        loading = spread * row / size
        shared = shared - np.outer(loading, row @ shared)
        rows.append(row)
        loadings.append(loading)
    return np.asarray(np.stack(rows) * whitening)


def _discriminants(variances: Array, offsets: Array, shares: Array, k: int, shrinkage: float) -> Array:
    """Return discriminant directions (k, p) in the principal components."""
    possible = min(len(shares) - 1, len(variances))
    if k > possible:
        raise ConfigError(f"k must be at most {possible} (classes that occur, minus one), found {k}.")
    between = (offsets / shares[:, None]).T @ offsets
    within = np.diag(variances) - between
    size = len(variances)
    target = max(float(np.trace(within)), _RANK * float(variances.sum())) / size
    within = (1 - shrinkage) * within + max(shrinkage, _RANK) * target * np.eye(size)
    _, vectors = eigh(between, within, subset_by_index=(size - k, size - 1))
    return np.asarray(vectors[:, ::-1].T)
