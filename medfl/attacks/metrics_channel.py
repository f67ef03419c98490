"""Reading single subjects' values, such as a Dice score or a probability, out of sums that a site sends.

An attack gets released numbers and public knowledge and claims values. A claim counts if it can be matched to a value
within 1e-3, one to one. `guess_rate` is what as many guesses from the marginal distribution reach.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from medfl.attacks.attributes import percentiles, resampled_subjects
from medfl.attacks.rates import no_narrower_than_exact
from medfl.errors import ShapeError
from medfl.results.attack import AttackResult, Measure

Floats = NDArray[np.float64]
TOLERANCE = 1e-3
_PRIOR = 1e-5
_SOLVED = 1e-8
_GUESSES = 50


def matched(claims: Floats, truth: Floats) -> NDArray[np.bool_]:
    """Say which values a claim of its own lies within 1e-3 of, (n,) in the order of `truth`."""
    claims, order = np.sort(claims), np.argsort(truth, kind="stable")
    found = np.zeros(len(truth), dtype=np.bool_)
    i = j = 0
    while i < len(claims) and j < len(truth):
        value = truth[order[j]]
        if abs(claims[i] - value) <= TOLERANCE:
            found[order[j]] = True
            i, j = i + 1, j + 1
        elif claims[i] < value:
            i += 1
        else:
            j += 1
    return found


def hit_rate(claims: Floats, truth: Floats) -> float:
    """Share of values, at least one, that are matched by a claim of their own."""
    return float(matched(claims, truth).mean())


def guess_rate(
    population: Floats, truth: Floats, generator: np.random.Generator, *, guesses: int | None = None
) -> float:
    """Return the best of four ways to guess from the marginal distribution.

    Values of other people at random, or their quantiles; as they are, or moved to the exact mean and spread.

    Parameters
    ----------
    population : ndarray of shape (p,)
        The same kind of value of other people.
    truth : ndarray of shape (n,)
    generator : Generator
    guesses : int or None
        How many claims are made; None makes one for each value.
    """

    def told(values: Floats) -> Floats:
        spread = values.std() or 1.0
        return np.asarray((values - values.mean()) / spread * truth.std() + truth.mean())

    number = len(truth) if guesses is None else guesses
    if number == 0:
        return 0.0
    quantiles = np.quantile(population, (np.arange(number) + 0.5) / number)
    draws = [generator.choice(population, number) for _ in range(_GUESSES)]
    rates = [float(np.mean([hit_rate(way(drawn), truth) for drawn in draws])) for way in (told, np.asarray)]
    return max(*rates, hit_rate(told(quantiles), truth), hit_rate(quantiles, truth))


def evaluate_claims(
    attack: Callable[[], Floats],
    truth: Floats,
    subjects: ArrayLike,
    population: Floats,
    *,
    name: str,
    setting: str,
    budget: str = "",
    seed: int,
    draws: int = 1000,
) -> AttackResult:
    """Judge an attack by the values that it claims.

    Parameters
    ----------
    attack : callable
        Returns the claims, of any number.
    truth : ndarray of shape (n,)
        One value per study, at least one study.
    subjects : array_like of shape (n,)
    population : ndarray of shape (p,)
        The same kind of value of other people, for guessing.
    name, setting, budget : str
    seed, draws : int

    Returns
    -------
    AttackResult
        Metric "hit_rate", its chance the rate of as many guesses. The further measure "claims" is their number.

    Raises
    ------
    ShapeError
        If there is no value, or shapes do not fit.
    """
    owners = np.unique(np.asarray(subjects), return_inverse=True)[1].reshape(-1)
    if truth.ndim != 1 or not len(truth) or owners.shape != truth.shape or not len(population):
        raise ShapeError(f"values need one subject each and a population: {truth.shape} and {owners.shape}.")
    began = time.perf_counter()
    claims = attack()
    seconds = time.perf_counter() - began
    hits, studies = np.bincount(owners, weights=matched(claims, truth)), np.bincount(owners)
    counts = resampled_subjects(len(studies), draws, np.random.default_rng(seed))
    value = float(hits.sum() / studies.sum())
    low, high = no_narrower_than_exact(value, *percentiles((counts @ hits) / (counts @ studies)), len(studies))
    return AttackResult(
        family="released sums",
        name=name,
        knowledge="sums",
        setting=setting,
        metric="hit_rate",
        value=value,
        ci_low=low,
        ci_high=high,
        chance=guess_rate(population, truth, np.random.default_rng(seed + 1), guesses=len(claims)),
        baseline="as many guesses from the marginal distribution",
        subjects=len(studies),
        positives=len(truth),
        negatives=0,
        attacker_subjects=len(population),
        further=(Measure(name="claims", value=len(claims)),),
        budget=budget,
        seconds=seconds,
    )


def differences(releases: Sequence[Floats], is_possible: Callable[[Floats], NDArray[np.bool_]]) -> Floats:
    """Subtract every pair of released numbers; keep what could be one subject's value."""
    flat = np.unique(np.concatenate([np.ravel(release) for release in releases]))
    delta = (flat[:, None] - flat)[np.tril_indices(len(flat), -1)]
    return np.unique(delta[is_possible(delta)])


def spread_in_cells(low: Floats, high: Floats, counts: NDArray[np.int64]) -> Floats:
    """Claim, for each cell of a histogram, as many values as it counts, spread evenly between its edges."""
    parts = [
        a + (b - a) * (np.arange(count) + 0.5) / count for a, b, count in zip(low, high, counts.tolist(), strict=True)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def overlap_scores(voxels: Floats) -> tuple[Floats, Floats]:
    """Dice and IoU of (n, 3) true positive, false positive, false negative voxels."""
    tp, errors = voxels[:, 0], voxels[:, 1] + voxels[:, 2]
    return 2 * tp / (2 * tp + errors), tp / (tp + errors)


def fit_overlaps(
    sums: Mapping[str, Floats], n: int, prior: Floats, generator: np.random.Generator, starts: int = 12
) -> list[Floats]:
    """Solve for every subject's voxels from sums and moments; many starts are the search over rotations.

    Parameters
    ----------
    sums : mapping of str to ndarray
        "sum": totals of (dice, iou, tp, fp, fn), the counts in thousands. "spread": their standard deviations over
        subjects; or "gram": their exact second moments (5, 5), which no careful site sends.
    n : int
        Subjects behind the sums.
    prior : ndarray of shape (p, 3)
        tp, fp and fn of other people.
    generator : Generator
    starts : int

    Returns
    -------
    list of ndarray of shape (n,)
        Claimed Dice of the best solution, and of the average over all solutions in sorted order.
    """
    scale = np.maximum(prior.mean(axis=0), 1.0)

    def evaluate(flat: Floats) -> tuple[Floats, Floats]:
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

    solutions: list[tuple[float, Floats]] = []
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
    return [best, np.asarray(np.mean([np.sort(dice) for _, dice in solutions], axis=0))]


def _columns(voxels: Floats) -> tuple[Floats, Floats]:
    """(n, 5) columns dice, iou, tp, fp, fn, the counts in thousands; (n, 5, 3) derivatives by log counts."""
    tp, fp, fn = voxels.T
    dice, iou = overlap_scores(voxels)
    slopes = np.zeros((len(voxels), 5, 3))
    for row, (whole, share) in enumerate(((2 * tp + fp + fn, dice), (tp + fp + fn, iou))):
        slopes[:, row, 0] = share * (1 - share)
        slopes[:, row, 1:] = -share[:, None] * voxels[:, 1:] / whole[:, None]
    slopes[:, [2, 3, 4], [0, 1, 2]] = voxels / 1000
    return np.column_stack([dice, iou, voxels / 1000]), slopes
