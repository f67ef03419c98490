import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medfl.attacks.one_run_audit import (
    ClaimTest,
    one_run_bound,
    one_run_claim_test,
    one_run_epsilon,
    one_run_gaussian_bound,
    one_run_gaussian_epsilon,
)
from medfl.attacks.privacy_audit import GAUSSIAN, EpsilonBound, gaussian_epsilon
from medfl.errors import ConfigError, ShapeError
from medfl.privacy.gaussian import gaussian_delta

DELTA = 1e-5
KNOWN = [  # canaries, guesses, correct, and both values of the reference auditor at 95 %
    (1000, 1000, 600, 0.2972, 0.5835),
    (1000, 100, 90, 1.6261, 2.4564),
    (1000, 100, 100, 3.4654, 5.5490),
    (200, 40, 40, 2.5482, 4.5342),
    (5000, 500, 475, 2.5900, 3.7615),
]
TABLE = {  # mu, canaries on each side: medians of one run and of one run with f-DP, guessing "took part" only
    (1.0, 250): (1.05, 1.24),
    (1.0, 1000): (1.37, 1.85),
    (2.0, 250): (2.27, 3.51),
    (2.0, 1000): (2.71, 4.89),
}
BOUNDS = (one_run_bound, one_run_gaussian_bound)


def gaussian_scores(mu: float, side: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    included = rng.random(2 * side) < 0.5
    return rng.normal(size=2 * side) + mu * included, included


def randomized_response(epsilon: float, count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    included = rng.random(count) < 0.5
    told = np.where(rng.random(count) < 1 / (1 + math.exp(-epsilon)), included, ~included)
    return told + 0.01 * rng.random(count), included


def gaussian_curve(mu: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    epsilons = np.linspace(0.0, 12.0, 121)
    return epsilons, np.array([gaussian_delta(float(epsilon), 1.0, mu) for epsilon in epsilons])


def claim(mu: float, claimed: float, seed: int) -> ClaimTest:
    epsilons, deltas = gaussian_curve(claimed)
    return one_run_claim_test(*gaussian_scores(mu, 400, seed), epsilons=epsilons, deltas=deltas, cut=mu / 2)


@pytest.mark.parametrize(("canaries", "guesses", "correct", "plain", "gaussian"), KNOWN)
def test_known_values_are_reproduced(canaries: int, guesses: int, correct: int, plain: float, gaussian: float) -> None:
    assert one_run_epsilon(canaries, guesses, correct, delta=DELTA, alpha=0.05) == pytest.approx(plain, abs=1e-4)
    found = one_run_gaussian_epsilon(canaries, guesses, correct, delta=DELTA, alpha=0.05)
    assert found == pytest.approx(gaussian, abs=1e-4)


@pytest.mark.parametrize(("mu", "side"), list(TABLE))
def test_medians_reach_the_known_ones_and_stay_under_the_truth(mu: float, side: int) -> None:
    """Guesses on both sides use the canaries better than guesses on one side, for which the table was made."""
    scores = [gaussian_scores(mu, side, seed) for seed in range(15)]
    for bound_of, expected, highest in zip(BOUNDS, TABLE[mu, side], (1.5, 1.8), strict=True):
        median = float(np.median([bound_of(*one, delta=DELTA).epsilon for one in scores]))
        assert expected <= median <= highest * expected
        assert median < gaussian_epsilon(mu, DELTA)


@pytest.mark.parametrize("bound_of", BOUNDS)
def test_pure_noise_gives_nothing_in_nearly_all_runs(bound_of: Callable[..., EpsilonBound]) -> None:
    found = [bound_of(*gaussian_scores(0.0, 150, seed), delta=DELTA).epsilon for seed in range(150)]
    assert sum(epsilon > 0 for epsilon in found) <= 0.05 * 150 + 3 * math.sqrt(0.05 * 0.95 * 150)
    assert np.median(found) == 0


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_a_true_epsilon_is_exceeded_no_more_often_than_stated(epsilon: float) -> None:
    """Randomized response is the worst case: every guess is right with exactly the chance that epsilon allows."""
    runs = 300
    found = [
        one_run_bound(*randomized_response(epsilon, 200, seed), delta=0.0, cut=0.5).epsilon for seed in range(runs)
    ]
    assert sum(value > epsilon for value in found) <= 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)
    assert max(found) > 0.8 * epsilon


def test_a_true_gaussian_is_exceeded_no_more_often_than_stated() -> None:
    truth = gaussian_epsilon(1.0, DELTA)
    found = [one_run_gaussian_bound(*gaussian_scores(1.0, 150, seed), delta=DELTA).epsilon for seed in range(150)]
    assert sum(value > truth for value in found) <= 0.05 * 150


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.data())
def test_more_right_guesses_say_more_and_larger_delta_or_confidence_less(guesses: int, data: st.DataObject) -> None:
    canaries = data.draw(st.integers(guesses, 600))
    correct = data.draw(st.integers(0, guesses))
    for epsilon_of in (one_run_epsilon, one_run_gaussian_epsilon):
        found = epsilon_of(canaries, guesses, correct, delta=DELTA, alpha=0.05)
        assert 0 <= found <= epsilon_of(canaries, guesses, guesses, delta=DELTA, alpha=0.05)
        if correct < guesses:
            assert found <= epsilon_of(canaries, guesses, correct + 1, delta=DELTA, alpha=0.05)
        assert epsilon_of(canaries, guesses, correct, delta=1e-3, alpha=0.05) <= found
        assert epsilon_of(canaries, guesses, correct, delta=DELTA, alpha=0.01) <= found


@pytest.mark.parametrize("bound_of", BOUNDS)
def test_every_guess_right_gives_the_ceiling_and_nothing_gives_more(bound_of: Callable[..., EpsilonBound]) -> None:
    included = np.random.default_rng(0).random(1000) < 0.5
    perfect = bound_of(np.where(included, 1.0, -1.0), included, delta=DELTA, cut=0.0)
    assert perfect.epsilon == perfect.ceiling
    assert perfect.correct == perfect.guesses == perfect.canaries == 1000
    one = bound_of(*gaussian_scores(3.0, 500, 1), delta=DELTA)
    assert 0 < one.epsilon <= one.ceiling == perfect.ceiling


def test_the_ceiling_of_a_hundred_guesses_is_the_known_one() -> None:
    included = np.arange(1000) % 2 == 0
    scores = np.where(included, 1.0, -1.0)
    assert one_run_bound(scores, included, delta=DELTA, cut=0.0, shares=[0.1]).ceiling == pytest.approx(3.465, abs=1e-3)


def test_the_most_certain_are_guessed_at_and_the_others_left() -> None:
    included = np.tile([True, False], 200)
    scores = np.where(included, 0.1, -0.1)
    scores[100:] *= -1  # wrong, and barely less certain
    scores[:100] *= 1.5
    bound = one_run_bound(scores, included, delta=DELTA, cut=0.0)
    assert (bound.guesses, bound.correct) == (100, 100)


def test_one_guess_too_many_shares_the_confidence() -> None:
    scores, included = gaussian_scores(2.0, 200, 3)
    alone = one_run_bound(scores, included, delta=DELTA, shares=[0.25])
    shared = one_run_bound(scores, included, delta=DELTA, confidence=0.90, shares=[0.25, 0.25])
    assert shared == one_run_bound(scores, included, delta=DELTA, confidence=0.90, shares=[0.25, 0.25])
    assert shared.epsilon == pytest.approx(alone.epsilon, abs=1e-5)


def test_a_false_curve_is_flagged_and_a_true_one_hardly_ever() -> None:
    assert all(claim(2.5, 1.0, seed).flagged for seed in range(10))
    assert sum(claim(1.0, 1.0, seed).flagged for seed in range(40)) <= 3
    fine = claim(1.0, 2.0, 0)
    assert not fine.flagged
    assert fine.within_reach
    assert "not contradicted" in fine.words


def test_a_curve_of_one_pair_is_about_as_strict_as_the_bound() -> None:
    scores, included = randomized_response(3.0, 600, 0)
    bound = one_run_bound(scores, included, delta=0.0, cut=0.5, shares=[1.0])
    for claimed, flagged in ((0.9 * bound.epsilon, True), (1.1 * bound.epsilon, False)):
        test = one_run_claim_test(scores, included, epsilons=[claimed], deltas=[0.0], cut=0.5, shares=[1.0])
        assert test.flagged is flagged
    out_of_reach = one_run_claim_test(scores, included, epsilons=[30.0], deltas=[0.0], cut=0.5)
    assert not out_of_reach.flagged
    assert not out_of_reach.within_reach
    assert "could not" in out_of_reach.words


def test_what_is_assumed_stands_beside_the_bound() -> None:
    scores, included = gaussian_scores(1.0, 50, 0)
    assert GAUSSIAN in one_run_gaussian_bound(scores, included, delta=DELTA).assumption
    assert "fair" in one_run_bound(scores, included, delta=DELTA).assumption


def test_numbers_out_of_range_are_refused() -> None:
    scores, included = gaussian_scores(1.0, 50, 0)
    for counts in ((10, 11, 5), (10, 5, 6), (10, 0, 0), (10, 5, -1)):
        with pytest.raises(ConfigError, match="correct <= guesses"):
            one_run_epsilon(*counts, delta=DELTA, alpha=0.05)
    for numbers in ({"delta": 1.0, "alpha": 0.05}, {"delta": 0.0, "alpha": 1.0}):
        with pytest.raises(ConfigError, match="alpha"):
            one_run_gaussian_epsilon(10, 5, 5, **numbers)
    for shares in ([], [0.0], [1.5]):
        with pytest.raises(ConfigError, match="shares"):
            one_run_bound(scores, included, delta=DELTA, shares=shares)
    with pytest.raises(ConfigError, match="cut"):
        one_run_bound(scores, included, delta=DELTA, cut=math.inf)
    with pytest.raises(ConfigError, match="confidence"):
        one_run_bound(scores, included, delta=DELTA, confidence=0.0)
    with pytest.raises(ShapeError):
        one_run_bound(scores, included[:-1], delta=DELTA)
    for epsilons, deltas in (([], []), ([1.0], [0.0, 0.1]), ([-1.0], [0.0]), ([1.0], [2.0]), ([math.inf], [0.0])):
        with pytest.raises(ShapeError, match="curve"):
            one_run_claim_test(scores, included, epsilons=epsilons, deltas=deltas)
