import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri

from medfl.attacks.privacy_audit import (
    GAUSSIAN,
    GAUSSIAN_RANKS,
    EpsilonBound,
    clopper_pearson_bound,
    gaussian_bound,
    gaussian_epsilon,
    verdict,
)
from medfl.errors import ConfigError, ShapeError
from medfl.privacy.privacy_curve import privacy_curve
from medfl.privacy.sampled_gaussian import SampledGaussian

DELTA = 1e-5
TABLE = {  # mu, canaries on each side: medians of Clopper-Pearson and of the Gaussian bound, made with other code
    (1.0, 250): (0.73, 2.55),
    (1.0, 1000): (1.27, 3.38),
    (2.0, 250): (2.03, 7.30),
    (2.0, 1000): (2.92, 8.57),
}
BOUNDS = (clopper_pearson_bound, gaussian_bound)


def gaussian_scores(mu: float, side: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    included = rng.random(2 * side) < 0.5
    return rng.normal(size=2 * side) + mu * included, included


def bound(epsilon: float, ceiling: float) -> EpsilonBound:
    return EpsilonBound("one run", epsilon, ceiling, 0.95, DELTA, 100, 100, 90, "fair coins")


@pytest.mark.parametrize(("mu", "side"), list(TABLE))
def test_known_medians_are_reproduced(mu: float, side: int) -> None:
    scores = [gaussian_scores(mu, side, seed) for seed in range(21)]
    for bound_of, expected, tolerance in zip(BOUNDS, TABLE[mu, side], (0.2, 0.07), strict=True):
        median = np.median([bound_of(*one, delta=DELTA).epsilon for one in scores])
        assert median == pytest.approx(expected, rel=tolerance)
        assert median < gaussian_epsilon(mu, DELTA)


@pytest.mark.parametrize("bound_of", BOUNDS)
def test_pure_noise_gives_nothing_and_a_true_epsilon_is_rarely_exceeded(bound_of: Callable[..., EpsilonBound]) -> None:
    runs = 40
    for mu in (0.0, 1.0):
        truth = gaussian_epsilon(mu, DELTA)
        found = [bound_of(*gaussian_scores(mu, 150, seed), delta=DELTA).epsilon for seed in range(runs)]
        assert sum(epsilon > truth for epsilon in found) <= 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)


def test_ties_do_not_spoil_the_confidence() -> None:
    """Randomized response is exactly (1, 0)-differentially private, and its scores are all 0 or 1."""
    runs, over = 60, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        included = rng.random(300) < 0.5
        told = np.where(rng.random(300) < 1 / (1 + math.exp(-1.0)), included, ~included)
        over += clopper_pearson_bound(told.astype(float), included, delta=0.0).epsilon > 1.0
    assert over <= 0.05 * runs


@pytest.mark.parametrize("bound_of", BOUNDS)
def test_every_guess_right_gives_the_ceiling_and_nothing_gives_more(bound_of: Callable[..., EpsilonBound]) -> None:
    included = np.random.default_rng(0).random(400) < 0.5
    perfect = bound_of(included.astype(float), included, delta=DELTA)
    assert perfect.epsilon == perfect.ceiling > 3
    for seed in range(10):
        one = bound_of(*gaussian_scores(3.0, 200, seed), delta=DELTA)
        assert 0 < one.epsilon <= one.ceiling
        assert one.correct <= one.guesses == one.canaries == 400


@pytest.mark.parametrize("bound_of", BOUNDS)
def test_scores_that_point_the_wrong_way_give_no_large_epsilon(bound_of: Callable[..., EpsilonBound]) -> None:
    """A bound that takes the size of mu reports several on noise; here the sign counts."""
    scores, included = gaussian_scores(-0.5, 500, 0)
    assert bound_of(scores, included, delta=DELTA).epsilon == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.floats(0.0, 3.0), st.floats(0.5, 0.99))
def test_order_and_scale_do_not_matter_and_more_confidence_gives_less(seed: int, mu: float, confidence: float) -> None:
    scores, included = gaussian_scores(mu, 60, seed)
    order = np.random.default_rng(seed).permutation(len(scores))
    for bound_of in BOUNDS:
        plain = bound_of(scores, included, delta=DELTA, confidence=confidence)
        assert bound_of(7 * scores[order] + 1, included[order], delta=DELTA, confidence=confidence) == plain
        surer = bound_of(scores, included, delta=DELTA, confidence=(1 + confidence) / 2)
        assert surer.epsilon <= plain.epsilon
        assert surer.ceiling <= plain.ceiling


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.0, 0.05, 300), (0.6, 0.05, 300), (0.5, 0.01, 100), (0.5, 0.5, 1), (5.0, 1.0, 100)]
)
def test_the_gaussian_bound_is_too_low_for_sampled_noise_even_with_endless_canaries(
    noise: float, rate: float, steps: int
) -> None:
    epsilons = np.concatenate([np.linspace(0, 2, 41), np.linspace(2.1, 25, 230)])
    deltas = privacy_curve([SampledGaussian(noise, rate, steps)], epsilons)
    claimed = float(epsilons[deltas <= DELTA][0])
    for rank in GAUSSIAN_RANKS:
        power = 1 - max((1 - deltas - np.exp(epsilons) * rank).max(), (np.exp(-epsilons) * (1 - deltas - rank)).max())
        assert gaussian_epsilon(float(ndtri(power) - ndtri(rank)), DELTA) <= 1.01 * claimed


def test_epsilon_of_a_gaussian_trade_off_has_its_known_values() -> None:
    assert gaussian_epsilon(1.0, DELTA) == pytest.approx(4.38, abs=0.01)
    assert gaussian_epsilon(2.0, DELTA) == pytest.approx(10.0, abs=0.05)
    assert gaussian_epsilon(0.0, DELTA) == gaussian_epsilon(-1.0, DELTA) == gaussian_epsilon(1e-6, 0.01) == 0
    assert gaussian_epsilon(1.0, 0.0) == math.inf


def test_a_verdict_flags_or_does_not_contradict_and_never_confirms() -> None:
    flagged = verdict(bound(2.0, 5.0), 1.0)
    assert flagged.flagged
    assert "flagged" in flagged.words
    fine = verdict(bound(2.0, 5.0), 3.0)
    assert not fine.flagged
    assert fine.within_reach
    assert "not contradicted" in fine.words
    assert "not confirmed" in fine.words
    hopeless = verdict(bound(2.0, 5.0), 8.0)
    assert not hopeless.flagged
    assert not hopeless.within_reach
    assert "could not" in hopeless.words
    assert not verdict(bound(2.0, 5.0), math.inf).flagged
    for one in (flagged, fine, hopeless):
        assert "ceiling 5" in one.words
        assert "fair coins" in one.words


def test_what_a_bound_assumes_stands_beside_it() -> None:
    scores, included = gaussian_scores(1.0, 50, 0)
    assert GAUSSIAN in gaussian_bound(scores, included, delta=DELTA).assumption
    assert "independent" in clopper_pearson_bound(scores, included, delta=DELTA).assumption


@pytest.mark.parametrize("bound_of", BOUNDS)
def test_canaries_that_tell_nothing_are_refused(bound_of: Callable[..., EpsilonBound]) -> None:
    scores, included = gaussian_scores(1.0, 50, 0)
    for broken, flags in (
        (scores[:-1], included),
        (scores[:0], included[:0]),
        (scores[:, None], included[:, None]),
        (np.full(100, np.nan), included),
        (scores, included.astype(int)),
        (scores, np.ones(100, dtype=bool)),
    ):
        with pytest.raises(ShapeError):
            bound_of(broken, flags, delta=DELTA)
    for numbers in ({"delta": 1.0}, {"delta": -0.1}, {"delta": 0.1, "confidence": 1.0}, {"delta": 0.1, "ranks": [2.0]}):
        with pytest.raises(ConfigError):
            bound_of(scores, included, **numbers)
    for claim in (-1.0, math.nan):
        with pytest.raises(ConfigError, match="claimed"):
            verdict(bound(1.0, 2.0), claim)
