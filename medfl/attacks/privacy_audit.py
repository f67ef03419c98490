"""How large epsilon is at least, judged by canaries: made-up subjects that took part in a run by the toss of a coin.

A canary's score says how much the run looks as if the canary took part. Where scores tell who did better than the
claimed epsilon allows, the claim is wrong: noise, clipping or sampling are not what the account presumes. The other way
round nothing follows. A lower bound under the claim does not confirm it, and no bound is above its ceiling, what so
many canaries give with every guess right. Coins decide about adding or removing a canary; a bound for these neighbors
holds for replacing a subject as well.

This file has the bounds that need independent scores; `one_run_audit` those of one run, which need fair coins only.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from medfl.attacks.rates import clopper_pearson
from medfl.errors import ConfigError, ShapeError
from medfl.privacy.gaussian import gaussian_delta, smallest

CONFIDENCE = 0.95
GAUSSIAN = "assuming a Gaussian trade-off"
INDEPENDENT = "assuming that scores of canaries are independent"
CLOPPER_PEARSON_RANKS = (0.0, 0.02, 0.1, 0.3, 0.7, 0.9, 0.98)
"""Thresholds lie at these ranks of the excluded canaries' scores, from the highest (0) downwards."""
GAUSSIAN_RANKS = (0.1, 0.25, 0.5)


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on epsilon.

    Attributes
    ----------
    method : str
    epsilon : float
        With the stated confidence the true epsilon at `delta` is not below; >= 0, and 0 says nothing.
    ceiling : float
        What the same canaries would have given with every guess right; no run can give more.
    confidence : float
        Of this bound alone, in (0, 1).
    delta : float
    canaries : int
    guesses, correct : int
        Canaries that were guessed at, and how many of them rightly, where the bound is taken.
    assumption : str
        What has to hold beside fair coins, in words.
    """

    method: str
    epsilon: float
    ceiling: float
    confidence: float
    delta: float
    canaries: int
    guesses: int
    correct: int
    assumption: str


@dataclass(frozen=True)
class Verdict:
    """What a bound says about a claim.

    Attributes
    ----------
    flagged : bool
        The bound is above the claim. False is "not contradicted", never "confirmed".
    within_reach : bool
        The ceiling is above the claim: so many canaries can contradict it at all.
    words : str
        One sentence for a report.
    """

    flagged: bool
    within_reach: bool
    words: str


def verdict(bound: EpsilonBound, claimed_epsilon: float) -> Verdict:
    """Compare a bound with the epsilon that the account claims at the same delta.

    One bound is to decide, chosen before the run: of four bounds at 95 % one is above a true claim more often than in
    one run of twenty.

    Parameters
    ----------
    bound : EpsilonBound
    claimed_epsilon : float
        >= 0; infinite where nothing is claimed.

    Raises
    ------
    ConfigError
        If the claim is negative or not a number.
    """
    if not claimed_epsilon >= 0:
        raise ConfigError(f"the claimed epsilon must be >= 0, found {claimed_epsilon}.")
    flagged, within_reach = bound.epsilon > claimed_epsilon, bound.ceiling > claimed_epsilon
    claim = f"the claimed {claimed_epsilon:.3g}"
    if flagged:
        said = f"flagged: epsilon is at least {bound.epsilon:.3g}, above {claim}"
    elif within_reach:
        said = f"not contradicted: epsilon is at least {bound.epsilon:.3g}, {claim} is not confirmed by this"
    else:
        said = f"not contradicted, which {bound.canaries} canaries could not do: the ceiling is not above {claim}"
    how = f"{bound.method}, {bound.confidence:.1%} confidence, ceiling {bound.ceiling:.3g}; {bound.assumption}"
    return Verdict(flagged, within_reach, f"{said} ({how}).")


def clopper_pearson_bound(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
    ranks: Sequence[float] = CLOPPER_PEARSON_RANKS,
) -> EpsilonBound:
    """Bound epsilon by exact intervals of the true and false positive rate (Jagielski et al. 2020, Nasr et al. 2021).

    ``max over thresholds of ln((TPR_low - delta) / FPR_high)``, and likewise ``ln((TNR_low - delta) / FNR_high)``. A
    threshold is the k-th highest score of an excluded canary, k fixed beforehand: the false positive rate at it
    exceeds the upper Clopper-Pearson limit of k - 1 out of n exactly as often as it may (Wilks 1941), and the included
    ones are independent of it. So all canaries serve all thresholds, and the confidence is shared among these
    (Bonferroni).

    Parameters
    ----------
    scores : array_like of shape (m,)
        Finite, higher means "took part".
    included : array_like of shape (m,), bool
        At least one True and one False.
    delta : float
        In [0, 1).
    confidence : float
        In (0, 1).
    ranks : sequence of float
        In [0, 1], as shares of the excluded canaries.

    Raises
    ------
    ConfigError
        If a number is out of range.
    ShapeError
        If shapes do not fit, scores are not finite or one kind of canary is missing.
    """
    values, truth = checked_canaries(scores, included, delta, confidence)
    limits = list(_limits(values, truth, ranks, confidence))
    epsilon, correct = max((_epsilon_of_rates(one.tpr_low, one.fpr_high, delta), one.correct) for one in limits)
    ceiling = max(_epsilon_of_rates(one.tpr_low_at_best, one.fpr_high, delta) for one in limits)
    m = len(values)
    return EpsilonBound(
        "Clopper-Pearson", max(epsilon, 0.0), max(ceiling, 0.0), confidence, delta, m, m, correct, INDEPENDENT
    )


def gaussian_bound(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
    ranks: Sequence[float] = GAUSSIAN_RANKS,
) -> EpsilonBound:
    """Bound mu of Gaussian differential privacy, and by it epsilon (Nasr et al. 2023, arXiv 2302.07956).

    ``mu >= Phi^-1(TPR_low) - Phi^-1(FPR_high)``, thresholds as in `clopper_pearson_bound`. It extrapolates from rates
    that can be measured to delta, so it is by far the tightest, and right only where the trade-off is that of a
    Gaussian. Sampling makes the tail of DP-SGD heavier than that, which at these ranks leaves the bound too low rather
    than too high; of a mechanism of another kind it may say too much.

    Parameters, result and errors are those of `clopper_pearson_bound`.
    """
    values, truth = checked_canaries(scores, included, delta, confidence)
    limits = list(_limits(values, truth, ranks, confidence))
    mu, correct = max((_mu_of_rates(one.tpr_low, one.fpr_high), one.correct) for one in limits)
    highest = max(_mu_of_rates(one.tpr_low_at_best, one.fpr_high) for one in limits)
    m = len(values)
    return EpsilonBound(
        "Gaussian",
        gaussian_epsilon(mu, delta),
        gaussian_epsilon(highest, delta),
        confidence,
        delta,
        m,
        m,
        correct,
        f"{GAUSSIAN}, {INDEPENDENT}",
    )


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return epsilon of a mechanism that is mu-GDP: where ``Phi(-e/mu + mu/2) - exp(e) Phi(-e/mu - mu/2) = delta``.

    Dong, Roth and Su 2022, corollary 2.13; 0 where mu is not above 0, infinite where delta is 0.
    """
    if mu <= 0 or gaussian_delta(0.0, 1.0, mu) <= delta:
        return 0.0
    return smallest(lambda epsilon: gaussian_delta(epsilon, 1.0, mu) <= delta, mu) if delta > 0 else math.inf


def checked_canaries(
    scores: ArrayLike, included: ArrayLike, delta: float, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores and flags as arrays of shape (m,).

    Raises
    ------
    ConfigError
        If delta is not in [0, 1) or the confidence not in (0, 1).
    ShapeError
        If there is no canary, shapes differ, flags are not bool or a score is not finite.
    """
    if not (0 <= delta < 1 and 0 < confidence < 1):
        raise ConfigError(f"delta must be in [0, 1), the confidence in (0, 1); found {delta} and {confidence}.")
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(included)
    if values.ndim != 1 or not len(values) or truth.shape != values.shape or truth.dtype != np.bool_:
        raise ShapeError(
            f"every canary needs one score and one flag of type bool; found scores of shape {values.shape} and flags "
            f"of shape {truth.shape} and type {truth.dtype}."
        )
    if not np.isfinite(values).all():
        raise ShapeError("every score of a canary must be finite; found one that is not.")
    return values, truth


@dataclass(frozen=True)
class _Limits:
    """At one threshold: limits of both rates, that of TPR with every guess right, and how many guesses are right."""

    tpr_low: float
    fpr_high: float
    tpr_low_at_best: float
    correct: int


def _limits(
    scores: NDArray[np.float64], included: NDArray[np.bool_], ranks: Sequence[float], confidence: float
) -> Iterator[_Limits]:
    outside, inside = np.sort(scores[~included])[::-1], scores[included]
    if not (len(outside) and len(inside)):
        raise ShapeError("rates need canaries that were included and others that were not; found one kind only.")
    if not ranks or not all(0 <= rank <= 1 for rank in ranks):
        raise ConfigError(f"ranks must be at least one number in [0, 1], found {list(ranks)}.")
    places = sorted({max(1, round(rank * len(outside))) for rank in ranks})
    level = 1.0 - (1.0 - confidence) / len(places)
    best = clopper_pearson(len(inside), len(inside), level)[0]
    for place in places:
        above = int((inside > outside[place - 1]).sum())
        kept = int((outside <= outside[place - 1]).sum())
        low = clopper_pearson(above, len(inside), level)[0]
        high = clopper_pearson(place - 1, len(outside), level)[1]
        yield _Limits(low, high, best, above + kept)


def _epsilon_of_rates(tpr_low: float, fpr_high: float, delta: float) -> float:
    shares = ((tpr_low - delta, fpr_high), (1.0 - fpr_high - delta, 1.0 - tpr_low))
    return max((math.log(right / wrong) for right, wrong in shares if right > 0), default=0.0)


def _mu_of_rates(tpr_low: float, fpr_high: float) -> float:
    return float(ndtri(tpr_low) - ndtri(fpr_high)) if 0 < tpr_low and fpr_high < 1 else 0.0
