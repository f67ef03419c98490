"""Attacks on what a site sends, each written so that it succeeds on a careless release.

An attack gets arrays, the number of subjects and public knowledge (ranges, integer counts, the population), and claims
one value per subject. A claim counts if it can be matched to a subject's value within 1e-3, one to one.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np
from scipy.optimize import least_squares

TOLERANCE = 1e-3
_PRIOR = 1e-5
_SOLVED = 1e-8


def hit_rate(claims: np.ndarray, truth: np.ndarray) -> float:
    """Share of subjects whose value is matched by a claim of its own."""
    claims, truth = np.sort(claims), np.sort(truth)
    hits = i = j = 0
    while i < len(claims) and j < len(truth):
        if abs(claims[i] - truth[j]) <= TOLERANCE:
            hits, i, j = hits + 1, i + 1, j + 1
        elif claims[i] < truth[j]:
            i += 1
        else:
            j += 1
    return hits / len(truth)


def guess_rate(population: np.ndarray, truth: np.ndarray, generator: np.random.Generator) -> float:
    """Best of two guesses from the marginal distribution, told the exact mean and spread of the subjects."""

    def told(values: np.ndarray) -> np.ndarray:
        spread = values.std() or 1.0
        return (values - values.mean()) / spread * truth.std() + truth.mean()

    n = len(truth)
    quantiles = np.quantile(population, (np.arange(n) + 0.5) / n)
    draws = [hit_rate(told(generator.choice(population, n)), truth) for _ in range(50)]
    return max(float(np.mean(draws)), hit_rate(told(quantiles), truth))


def overlap_scores(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dice and IoU of (n, 3) true positive, false positive, false negative voxels."""
    tp, errors = voxels[:, 0], voxels[:, 1] + voxels[:, 2]
    return 2 * tp / (2 * tp + errors), tp / (tp + errors)


def _columns(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 5) columns dice, iou, tp, fp, fn, the counts in thousands; (n, 5, 3) derivatives by log counts."""
    tp, fp, fn = voxels.T
    dice, iou = overlap_scores(voxels)
    slopes = np.zeros((len(voxels), 5, 3))
    for row, (whole, share) in enumerate(((2 * tp + fp + fn, dice), (tp + fp + fn, iou))):
        slopes[:, row, 0] = share * (1 - share)
        slopes[:, row, 1:] = -share[:, None] * voxels[:, 1:] / whole[:, None]
    slopes[:, [2, 3, 4], [0, 1, 2]] = voxels / 1000
    return np.column_stack([dice, iou, voxels / 1000]), slopes


def fit_overlaps(
    sums: dict[str, np.ndarray], n: int, prior: np.ndarray, generator: np.random.Generator, starts: int = 12
) -> list[np.ndarray]:
    """Solve for every subject's voxels from sums and moments; many starts are the search over rotations.

    Parameters: `sums` maps "sum" to the totals of (dice, iou, tp, fp, fn), "spread" to their standard deviations over
    subjects and, from a careless site, "gram" to the exact second moments. `prior` is a population of (tp, fp, fn).
    Returns the claimed Dice values of the best solution, and of the average over solutions in sorted order.
    """
    scale = prior.mean(axis=0)

    def evaluate(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals and their derivatives with respect to the logarithms of all voxel counts."""
        voxels = np.exp(np.clip(flat, -9, 3).reshape(n, 3)) * scale
        columns, slopes = _columns(voxels)
        parts = [(columns.sum(axis=0) - sums["sum"]) * 1e3]
        jacobian = [slopes.transpose(1, 0, 2).reshape(5, -1) * 1e3]
        if "gram" in sums:
            first, second = np.triu_indices(5)
            parts.append((columns.T @ columns - sums["gram"])[first, second] * 1e3)
            products = slopes[:, first] * columns[:, second, None] + slopes[:, second] * columns[:, first, None]
            jacobian.append(products.transpose(1, 0, 2).reshape(len(first), -1) * 1e3)
        else:
            spread, window = columns.std(axis=0) + 1e-9, 0.05 * sums["spread"] + 1e-9
            parts.append((spread - sums["spread"]) / window)
            change = slopes * ((columns - columns.mean(axis=0)) / (n * spread * window))[:, :, None]
            jacobian.append(change.transpose(1, 0, 2).reshape(5, -1))
        return np.concatenate([*parts, _PRIOR * flat]), np.concatenate([*jacobian, _PRIOR * np.eye(3 * n)])

    solutions = []
    for _ in range(starts):
        start = np.log(np.maximum(prior[generator.integers(0, len(prior), n)], 1.0) / scale).reshape(-1)
        solved = least_squares(
            lambda x: evaluate(x)[0],
            start,
            jac=lambda x: evaluate(x)[1],
            method="lm",
            max_nfev=600 if "gram" in sums else 150,
        )
        dice, _ = overlap_scores(np.exp(np.clip(solved.x, -9, 3).reshape(n, 3)) * scale)
        solutions.append((float(solved.cost), dice))
        if "gram" in sums and solved.cost < _SOLVED:
            break
    best = min(solutions, key=lambda entry: entry[0])[1]
    return [best, np.mean([np.sort(dice) for _, dice in solutions], axis=0)]


def spell_out(
    total: float, window: float, alphabet: np.ndarray, weights: np.ndarray, n: int, second: tuple[float, float] | None
) -> np.ndarray:
    """Find the multiset of n values from a small alphabet whose sum is known; the likeliest of those that fit."""
    choices = np.array(list(combinations_with_replacement(range(len(alphabet)), n)))
    values = alphabet[choices]
    fits = np.abs(values.sum(axis=1) - total) <= window
    if second is not None:
        spread = values.std(axis=1)
        fits &= (spread >= second[0]) & (spread <= second[1])
    if not fits.any():
        return np.zeros(n)
    likelihood = np.log(weights[choices[fits]]).sum(axis=1)
    return np.asarray(values[fits][likelihood.argmax()])


def meet_in_the_middle(
    totals: np.ndarray, windows: np.ndarray, alphabet: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Find five entries of an alphabet of (dice, iou) that add up to the totals: 2 + 3, by sorted search."""
    size = len(alphabet)
    pairs = np.array(list(combinations_with_replacement(range(size), 2)))
    triples = np.array(list(combinations_with_replacement(range(size), 3)))
    pair_sums, triple_sums = alphabet[pairs].sum(axis=1), alphabet[triples].sum(axis=1)
    order = np.argsort(triple_sums[:, 0])
    sorted_sums = triple_sums[order, 0]
    matches: list[np.ndarray] = []
    for index in generator.permutation(len(pairs)):
        rest = totals - pair_sums[index]
        low, high = np.searchsorted(sorted_sums, [rest[0] - windows[0], rest[0] + windows[0]])
        near = order[low:high]
        near = near[np.abs(triple_sums[near, 1] - rest[1]) <= windows[1]]
        if len(near):
            chosen = triples[near[generator.integers(len(near))]]
            matches.append(np.concatenate([pairs[index], chosen]))
        if len(matches) >= 20:
            break
    if not matches:
        return np.zeros(5)
    return np.asarray(alphabet[matches[generator.integers(len(matches))], 0])


def lone_draws(replicates: np.ndarray, n: int) -> np.ndarray:
    """Read bootstrap replicates that drew one subject alone: the sums of values in [0, 1] that lie in (0.5, 1]."""
    alone = np.unique(np.round(replicates[(replicates > 0.5) & (replicates <= 1.0)], 9))
    return np.resize(alone, n) if len(alone) else np.zeros(n)


def differences(releases: list[np.ndarray], is_possible: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Subtract every pair of released numbers; keep what could be one subject's value."""
    flat = np.concatenate([np.ravel(release) for release in releases])
    delta = np.abs(flat[:, None] - flat[None, :])[np.triu_indices(len(flat), 1)]
    return np.unique(delta[is_possible(delta)])
