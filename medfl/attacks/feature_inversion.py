"""Closed-form inversion: who knows some images both clear and released computes the clear features of strangers.

Two maps are fitted to n known pairs: ridge regression, its weight chosen by the exact leave-one-out error (Allen 1974,
"PRESS"), and an orthogonal map with scale and bias (Schonemann 1966, "Procrustes"). Both work in the span of the known
pairs, so that maps of many values cost no more than n^2 of them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.pairs import Features, Floats
from medfl.attacks.rates import no_narrower_than_exact
from medfl.attacks.statistics import LEVEL
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Measure

_WEIGHTS = np.logspace(-14, 1, 46)  # of ridge, in units of the largest squared singular value
_FOLDS = 5
_LEAST_KNOWN = 4
KNOWN_IMAGES = "known_images"
"""Name of the measure that says how many images an anchored attacker knows."""


@dataclass(frozen=True, eq=False)
class AffineMap:
    """``y = (x - center) @ down @ up + target``.

    Attributes
    ----------
    center : ndarray of shape (D,)
    down : ndarray of shape (D, r)
    up : ndarray of shape (r, E)
    target : ndarray of shape (E,)
    """

    center: Floats
    down: Floats
    up: Floats
    target: Floats

    def __call__(self, values: Floats) -> Floats:
        """Return (m, E) for values (m, D)."""
        return np.asarray((values - self.center) @ self.down @ self.up + self.target)


Map = Callable[[Floats], Floats]
Fit = Callable[[Floats, Floats], Map]
Naming = Callable[[Floats, Floats], Floats]
"""Guesses (m, E) and clear features (m, E) of the same images to whether each guess names its own (m,), in [0, 1]."""


def fit_ridge(inputs: Floats, outputs: Floats) -> AffineMap:
    """Ridge regression with bias; the weight has the least leave-one-out error of 46 from 1e-14 to 10.

    Parameters
    ----------
    inputs : ndarray of shape (n, D)
    outputs : ndarray of shape (n, E)

    Returns
    -------
    AffineMap
    """
    center, target = inputs.mean(axis=0), outputs.mean(axis=0)
    u, s, vt = _decomposed(inputs - center)
    centered = outputs - target
    turned = u.T @ centered
    interpolates = len(s) == len(inputs) - 1  # then nothing lies outside the span, not even rounding errors
    beyond = np.zeros_like(centered) if interpolates else centered - u @ turned
    free = np.zeros(len(inputs)) if interpolates else np.maximum(1 - 1 / len(inputs) - (u**2).sum(axis=1), 0)

    def left_out(weight: float) -> float:
        kept = weight / (s**2 + weight)
        residual = beyond + u @ (kept[:, None] * turned)
        leverage_left = np.maximum(free + (u**2) @ kept, 1e-300)
        return float(((residual / leverage_left[:, None]) ** 2).sum())

    weights = _WEIGHTS * (s[0] ** 2 if len(s) else 1.0)
    weight = weights[int(np.argmin([left_out(one) for one in weights]))]
    return AffineMap(center, vt.T * (s / (s**2 + weight)), turned, target)


def fit_procrustes(inputs: Floats, outputs: Floats) -> AffineMap:
    """Orthogonal map with one scale and a bias; directions that the known pairs do not span go to 0.

    Parameters and return are those of `fit_ridge`.
    """
    center, target = inputs.mean(axis=0), outputs.mean(axis=0)
    u, s, vt = _decomposed(inputs - center)
    w, t, zt = _decomposed(outputs - target)
    left, size, right = np.linalg.svd((s[:, None] * (u.T @ w)) * t, full_matrices=False)
    scale = size.sum() / max(float((s**2).sum()), 1e-300)
    return AffineMap(center, vt.T @ left * scale, right @ zt, target)


ESTIMATORS: tuple[tuple[str, Fit], ...] = (("ridge", fit_ridge), ("procrustes", fit_procrustes))


def held_out_explained(fit: Fit, inputs: Floats, outputs: Floats, subjects: ArrayLike) -> float:
    """Share of the outputs' variance that maps explain on known subjects they were not fitted to (five folds).

    Parameters
    ----------
    fit : callable
        `fit_ridge` or `fit_procrustes`.
    inputs, outputs : ndarray of shape (n, D) and (n, E)
    subjects : array_like of shape (n,)
        No subject is in two folds.

    Returns
    -------
    float
        At most 1; 0 is the mean of the other folds.
    """
    numbers = np.unique(np.asarray(subjects), return_inverse=True)[1]
    wrong = total = 0.0
    for fold in range(min(_FOLDS, int(numbers.max()) + 1)):
        held = numbers % _FOLDS == fold
        if held.all() or (~held).sum() < 2:
            continue
        found = fit(inputs[~held], outputs[~held])
        wrong += float(((found(inputs[held]) - outputs[held]) ** 2).sum())
        total += float(((outputs[held] - outputs[~held].mean(axis=0)) ** 2).sum())
    return 1 - wrong / total if total > 0 else 0.0


def known_and_strangers(subjects: ArrayLike, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split images by subject: those an attacker may know, in the order it gets to know them, and those of strangers.

    Half of the subjects with two or more images are strangers; all others may be known. Every known subject gives its
    first image before any gives a second one, so that n known images are as different as they can be.

    Parameters
    ----------
    subjects : array_like of shape (n,)
    rng : Generator

    Returns
    -------
    known, strangers : ndarray of int64
        Indices.

    Raises
    ------
    TooFewSubjectsError
        If fewer than four subjects have two images.
    """
    names, numbers, counts = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    linked = np.flatnonzero(counts > 1)
    if len(linked) < 4:
        raise TooFewSubjectsError(
            f"An attacker with known images needs at least four subjects with two images, found {len(linked)}."
        )
    is_stranger = np.zeros(len(names), dtype=bool)
    is_stranger[rng.permutation(linked)[: -(-len(linked) // 2)]] = True
    shuffled = rng.permutation(np.flatnonzero(~is_stranger[numbers]))
    turns = np.zeros(len(names), dtype=np.int64)
    turn = np.zeros(len(shuffled), dtype=np.int64)
    for place, image in enumerate(shuffled):
        turn[place] = turns[numbers[image]]
        turns[numbers[image]] += 1
    return shuffled[np.argsort(turn, kind="stable")], np.flatnonzero(is_stranger[numbers])


def possible_counts(wanted: Sequence[int], available: int) -> tuple[int, ...]:
    """Return the numbers of known images that there are images for.

    Raises
    ------
    ConfigError
        If a number is under 4.
    TooFewSubjectsError
        If none is left.
    """
    if not wanted or min(wanted) < _LEAST_KNOWN:
        raise ConfigError(f"Numbers of known images must be at least {_LEAST_KNOWN}, found {tuple(wanted)}.")
    found = tuple(sorted({count for count in wanted if count <= available}))
    if not found:
        raise TooFewSubjectsError(f"The fewest known images are {min(wanted)}, but only {available} may be known.")
    return found


def ratio_interval(
    above: Floats, below: Floats, subjects: ArrayLike, draws: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return sum(above) / sum(below) over images, with the 95 % percentile interval of a bootstrap over subjects.

    Parameters
    ----------
    above, below : ndarray of shape (m,)
    subjects : array_like of shape (m,)
    draws : int
    rng : Generator

    Returns
    -------
    value, low, high : float
    """
    numbers = np.unique(np.asarray(subjects), return_inverse=True)[1]
    count = int(numbers.max()) + 1
    top, bottom = (np.bincount(numbers, weights=one, minlength=count) for one in (above, below))
    counts = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    low, high = np.quantile((counts @ top) / np.maximum(counts @ bottom, 1e-300), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(above.sum() / max(float(below.sum()), 1e-300)), float(low), float(high)


def nearest_is_own(guessed: Floats, clear: Floats) -> Floats:
    """Whether each guess (m, D) is nearer to its own clear features than to those of any other image, by cosine.

    Both are centered by their own means. A tie among k counts 1 / k; shape (m,).
    """
    one, other = _directions(guessed), _directions(clear)
    similar = one @ other.T
    best = similar >= similar.max(axis=1, keepdims=True) - 1e-12
    return np.asarray(np.diag(best) / best.sum(axis=1), dtype=np.float64)


def evaluate_feature_inversion(
    released: Features,
    clear: Features,
    subjects: ArrayLike,
    *,
    seed: int,
    known: Sequence[int] = (16, 64, 256),
    draws: int = 1000,
    estimators: Sequence[tuple[str, Fit]] = ESTIMATORS,
    naming: Naming = nearest_is_own,
) -> tuple[AttackResult, ...]:
    """Invert the features of strangers with maps fitted to known pairs.

    Parameters
    ----------
    released : ndarray of shape (n, ...)
        What everybody sees, under one key.
    clear : ndarray of shape (n, ...)
        Features of the same images before protection.
    subjects : array_like of shape (n,)
    seed : int
        Equal seeds give equal results, but for `seconds`.
    known : sequence of int
        Numbers of known pairs, each at least 4; those that half of the subjects cannot give are left out.
    draws : int
        Draws of subjects for the intervals.
    estimators : sequence of (str, callable)
        Names and fits; `medfl.attacks.kept_numbers` has those for the few numbers of a bottleneck.
    naming : callable
        What "rank_1" counts.

    Returns
    -------
    tuple of AttackResult
        Every estimator for each number of known pairs. "explained" is ``1 - |guess - z|^2 / |z - mean|^2`` over
        strangers, `mean` that of the known clear features: 0 is a guess without the release, and less is possible.
        `validation` is the same on known subjects that were held out. `positives` counts the strangers' images.

    Raises
    ------
    ShapeError
        If arrays do not fit together or are not finite.
    ConfigError, TooFewSubjectsError
        As `possible_counts` and `known_and_strangers`.
    """
    names, seen, hidden = aligned_rows(subjects, released, clear)
    order, strangers = known_and_strangers(names, np.random.default_rng(seed))
    results = []
    for count in possible_counts(known, len(order)):
        own = order[:count]
        for estimator, fit in estimators:
            began = time.perf_counter()
            validation = held_out_explained(fit, seen[own], hidden[own], names[own])
            guessed = fit(seen[own], hidden[own])(seen[strangers])
            seconds = time.perf_counter() - began
            truth, who = hidden[strangers], names[strangers]
            errors = ((guessed - truth) ** 2).sum(axis=1)
            spread = ((truth - hidden[own].mean(axis=0)) ** 2).sum(axis=1)
            lost, low, high = ratio_interval(errors, spread, who, draws, np.random.default_rng(seed))
            results.append(
                AttackResult(
                    family="inversion",
                    name=estimator,
                    knowledge="anchored",
                    setting=f"{count} known images",
                    metric="explained",
                    value=1 - lost,
                    ci_low=1 - high,
                    ci_high=1 - low,
                    chance=0.0,
                    baseline="the mean of the known images",
                    subjects=len(np.unique(who)),
                    positives=len(strangers),
                    negatives=0,
                    attacker_subjects=len(np.unique(names[own])),
                    validation=validation,
                    further=(
                        rank_one(guessed, truth, who, draws, seed, naming),
                        Measure(
                            name="relative_error",
                            value=float(np.sqrt(lost)),
                            ci_low=float(np.sqrt(low)),
                            ci_high=float(np.sqrt(high)),
                            chance=1.0,
                        ),
                        Measure(name=KNOWN_IMAGES, value=count),
                    ),
                    budget=f"{count} known pairs",
                    seconds=seconds,
                )
            )
    return tuple(results)


def rank_one(
    guessed: Floats,
    truth: Floats,
    subjects: ArrayLike,
    draws: int,
    seed: int,
    naming: Naming = nearest_is_own,
) -> Measure:
    """Return how often a guess finds its own clear features among those of all N images; chance 1 / N."""
    hits = naming(guessed, truth)
    value, low, high = ratio_interval(hits, np.ones(len(hits)), subjects, draws, np.random.default_rng(seed))
    low, high = no_narrower_than_exact(value, low, high, len(np.unique(np.asarray(subjects))))
    return Measure(name="rank_1", value=value, ci_low=low, ci_high=high, chance=1 / len(hits))


def aligned_rows(subjects: ArrayLike, first: Features, second: Features) -> tuple[NDArray[np.str_], Floats, Floats]:
    """Return subjects (n,) and both arrays as float64 rows (n, D) and (n, E).

    Raises
    ------
    ShapeError
        If they are not of the same images, or not finite.
    """
    names = np.asarray(subjects)
    if names.ndim != 1 or not len(names) or first.ndim < 2 or second.ndim < 2:
        raise ShapeError("Features must be (n, ...) and subjects (n,), with at least one image.")
    if not len(names) == len(first) == len(second):
        raise ShapeError(f"Images must be the same in all arrays, found {len(first)}, {len(second)} and {len(names)}.")
    rows = [np.asarray(one, dtype=np.float64).reshape(len(names), -1) for one in (first, second)]
    if not all(np.isfinite(one).all() for one in rows):
        raise ShapeError("Features must be finite; remove or repair those that are not.")
    return names, rows[0], rows[1]


def _decomposed(centered: Floats) -> tuple[Floats, Floats, Floats]:
    """Singular value decomposition without directions that hold rounding errors only."""
    u, s, vt = np.linalg.svd(centered, full_matrices=False)
    kept = s > max(centered.shape) * float(np.finfo(np.float64).eps) * s[0]
    return u[:, kept], s[kept], vt[kept]


def _directions(values: Floats) -> Floats:
    centered = values - values.mean(axis=0)
    return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-300))
