"""Linear discriminants with a shrunken covariance within subjects; scores say how much closer than others a pair is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.feature_views import dot, normalized, principal_axes
from medfl.attacks.pairs import Features, Floats, Scorer

_COMPONENTS, _NEIGHBORS, _CHUNK = 400, 50, 1024


def shrunken_lda(values: Features, names: NDArray[Any], shrinkages: Sequence[float]) -> tuple[Scorer, ...]:
    """Fit one scorer per strength of shrinkage.

    Directions solve ``B v = b (W + s w I) v`` (Friedman 1989): B and W are the covariances between and within subjects
    in the scale of the features, w the mean variance within, s the shrinkage. Unlike whitening, that keeps many quiet
    directions without making them loud. A direction weighs ``b / (2 b + 1)``, as in the likelihood ratio of the
    two-covariance model (Ioffe 2006, "PLDA"): the part of its product.

    Parameters
    ----------
    values : ndarray of shape (n, D)
    names : ndarray of shape (n,)
        Subject of each image; some subject has several.
    shrinkages : sequence of float
        Each over 0; 1 adds as much variance in every direction as there is on average.

    Returns
    -------
    tuple of Scorer
        See `against_cohort`; the images fitted on are the cohort.
    """
    mean = values.mean(axis=0)
    axes = principal_axes(values - mean, _COMPONENTS)[0]
    turned = np.asarray((values - mean) @ axes, dtype=np.float64)
    within = covariance_within(turned, names)
    total = turned.T @ turned / len(turned)
    variances, vectors = np.linalg.eigh(within)
    between = vectors.T @ (total - within) @ vectors
    scorers = []
    for shrinkage in shrinkages:
        shrunken = np.maximum(variances, 0) + shrinkage * variances.mean()
        basis = vectors @ _discriminants(between, shrunken, float(np.trace(total)))
        scorers.append(against_cohort(_projection(mean, axes, basis), turned @ basis))
    return tuple(scorers)


def against_cohort(project: Callable[[Features], Features], cohort: Features) -> Scorer:
    """Score pairs by cosine, less how close each image is to its nearest in a cohort (Conneau 2018, "CSLS").

    An image that looks like many others is no sign of identity when it looks like one more. The score is
    ``2 cos(a, b) - r(a) - r(b)``, with r the mean cosine to the 50 nearest of the cohort.

    Parameters
    ----------
    project : callable
        Features (m, ...) -> vectors (m, K).
    cohort : ndarray of shape (n, K)
        Such vectors of the attacker's own images; all of them where there are fewer than 50.
    """
    known = normalized(cohort)
    count = min(_NEIGHBORS, len(known))

    def embed(new: Features) -> Floats:
        vectors = normalized(project(new))
        near = [
            np.partition(vectors[start : start + _CHUNK] @ known.T, -count, axis=1)[:, -count:].mean(axis=1)
            for start in range(0, len(vectors), _CHUNK)
        ]
        return np.column_stack([vectors, np.concatenate(near)])

    return Scorer(embed, lambda a, b: 2 * dot(a[:, :-1], b[:, :-1]) - a[:, -1] - b[:, -1])


def covariance_within(values: Floats, names: NDArray[Any]) -> Floats:
    """Return the covariance of vectors (n, D) around the mean of their own subject, (D, D); unbiased.

    Parameters
    ----------
    values : ndarray of shape (n, D)
    names : ndarray of shape (n,)
        Subject of each; some subject has several.
    """
    numbers, counts = np.unique(names, return_inverse=True, return_counts=True)[1:]
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, numbers, values)
    apart = values - (means / counts[:, None])[numbers]
    return np.asarray(apart.T @ apart / (len(values) - len(counts)), dtype=np.float64)


def _projection(mean: Features, axes: Features, basis: Floats) -> Callable[[Features], Features]:
    return lambda new: (new - mean) @ axes @ basis


def _discriminants(between: Floats, variances: Floats, total: float) -> Floats:
    """Return weighted directions (K, L) from `between` in the axes of `variances`; at least one, if of weight 0."""
    scale = 1 / np.sqrt(variances + 1e-9 * total / len(variances) + 1e-30)
    found, directions = np.linalg.eigh(between * scale[:, None] * scale)
    kept = found > 0
    kept[-1] = True
    found = np.maximum(found[kept], 0)
    return np.asarray(scale[:, None] * directions[:, kept] * np.sqrt(found / (2 * found + 1)), dtype=np.float64)
