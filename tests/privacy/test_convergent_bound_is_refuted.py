"""Bounds on mu that are said to converge at constant noise, kept as negative tests: none of them is an accountant here.

Theorems 3 and 4 of arXiv 2408.15621, as stated there: m sites, all in every round, K local steps with gradients clipped
to V, noise N(0, s^2) on what each site uploads, one sample of one site replaced, an L-smooth loss. A linear loss is
L-smooth for every L, so it must obey all of them.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from medfl.privacy.sampled_gaussian import Adjacency, gaussian_ceiling, gaussian_mu, growing_noise

Claim = Callable[..., float]
RATE, CLIP, LOCAL, SITES, SIGMA, SMOOTH = 0.1, 1.0, 5, 20, 1.0, 1.0
ONE_ROUND = 2 * RATE * CLIP * LOCAL / (math.sqrt(SITES) * SIGMA)
ALPHA = 2.0
ONE_PROXIMAL_ROUND = 2 * CLIP / (math.sqrt(SITES) * ALPHA * SIGMA)
ROUNDS, TRIALS = 100, 20_000


def constant_rate_claim(rounds: int, smooth: float = SMOOTH) -> float:
    """Theorem 3(a)."""
    grows = (1 + RATE * smooth) ** LOCAL
    return ONE_ROUND * math.sqrt((grows + 1) / (grows - 1) * (grows**rounds - 1) / (grows**rounds + 1))


def proximal_claim(rounds: int, smooth: float = SMOOTH) -> float:
    """Theorem 4, for alpha > L."""
    grows = ALPHA / (ALPHA - smooth)
    return ONE_PROXIMAL_ROUND * math.sqrt((2 * ALPHA - smooth) / smooth * (1 - 2 / (grows**rounds + 1)))


def slope(sample: float) -> float:
    """The gradient of the linear loss of one sample, clipped to V."""
    return float(np.clip(sample, -CLIP, CLIP))


def trained(sample: float, *, proximal: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """Final models of a federation with linear losses, one for each trial; only the first site holds the sample."""
    slopes = np.array([slope(sample), *np.zeros(SITES - 1)])
    models = np.zeros(TRIALS)
    for _ in range(ROUNDS):
        uploads = np.repeat(models[:, None], SITES, axis=1)
        if proximal:  # the exact minimum of slope * w + alpha / 2 (w - w_t)^2
            uploads -= slopes / ALPHA
        else:
            for _ in range(LOCAL):
                uploads -= RATE * slopes
        models = np.mean(uploads + SIGMA * rng.standard_normal(uploads.shape), axis=1)
    return models


@pytest.mark.parametrize(
    ("proximal", "one_round", "claim"),
    [(False, ONE_ROUND, constant_rate_claim), (True, ONE_PROXIMAL_ROUND, proximal_claim)],
)
def test_an_attacker_on_a_linear_loss_does_better_than_the_bound_allows(
    proximal: bool, one_round: float, claim: Claim
) -> None:
    """The final model alone, one threshold, noise really drawn: true positives at 1 % false ones."""
    rng = np.random.default_rng(0)
    without, present = (trained(sample, proximal=proximal, rng=rng) for sample in (9.0, -9.0))
    reached = float(np.mean(present > np.quantile(without, 0.99)))
    error = 5 * math.sqrt(reached * (1 - reached) / TRIALS) + 0.02  # and that of the threshold
    claimed = float(ndtr(ndtri(0.01) + claim(ROUNDS)))
    composed = gaussian_mu([2 / one_round] * ROUNDS, Adjacency.REPLACE)
    assert composed == pytest.approx(math.sqrt(ROUNDS) * one_round)
    assert reached - error > 3 * claimed
    assert reached == pytest.approx(gaussian_ceiling(composed).true_positive_rate, abs=error)


@pytest.mark.parametrize(
    ("claim", "one_round"), [(constant_rate_claim, ONE_ROUND), (proximal_claim, ONE_PROXIMAL_ROUND)]
)
def test_a_claim_that_stands_still_is_overtaken_by_what_really_adds_up(claim: Claim, one_round: float) -> None:
    assert claim(1) == pytest.approx(one_round)
    assert claim(500) == pytest.approx(claim(100))
    for rounds in (2, 10, 500):
        assert claim(rounds) < 0.99 * gaussian_mu([2 / one_round] * rounds, Adjacency.REPLACE)


@pytest.mark.parametrize("claim", [constant_rate_claim, proximal_claim])
def test_the_claims_fall_as_the_loss_gets_rougher(claim: Claim) -> None:
    """A worst case over more losses cannot be smaller."""
    assert claim(ROUNDS, 1.9) < claim(ROUNDS, 1.0) < claim(ROUNDS, 0.1)


def shifted(weights: NDArray[np.float64], grows: float) -> float:
    """What theorem 1 bounds mu^2 by for weights in [0, 1], in units of one round; the last weight is 1."""
    left = total = 0.0
    for weight in weights:
        apart = grows * left + 1.0
        total += (weight * apart) ** 2
        left = (1.0 - weight) * apart
    return total


@pytest.mark.parametrize("grows", [1.3, (1 + RATE * SMOOTH) ** LOCAL])
def test_the_claim_needs_a_weight_that_its_own_proof_forbids(grows: float) -> None:
    """Its minimum is Cauchy and Schwarz's, at a first weight above 1; among allowed weights plain composition is it."""
    rounds = 20
    powers = grows ** np.arange(rounds)
    first = powers[-1] * powers.sum() / (powers**2).sum()
    assert first > 1.3
    claimed = powers.sum() ** 2 / (powers**2).sum()
    plain = shifted(np.ones(rounds), grows)
    assert plain == rounds > 2 * claimed
    rng = np.random.default_rng(0)
    allowed = np.concatenate([rng.uniform(size=(2000, rounds)), 1 - 0.05 * rng.uniform(size=(2000, rounds))])
    allowed[:, -1] = 1.0
    assert min(shifted(weights, grows) for weights in allowed) >= plain


@pytest.mark.parametrize("rounds", [2, 10, 1000])
def test_a_schedule_whose_noise_grows_is_bounded_for_all_who_see_every_round(rounds: int) -> None:
    """Theorem 3(c) says sqrt(2 - 1/T) for rates that fall as 1 / (t + 1); plain composition is below it."""
    first = 3.0
    all_rounds = gaussian_mu([growing_noise(first, step) for step in range(rounds)], Adjacency.REPLACE)
    one_round = gaussian_mu([first], Adjacency.REPLACE)
    assert all_rounds <= one_round * math.sqrt(2 - 1 / rounds)
    assert one_round < all_rounds < 1.283 * one_round
    assert gaussian_mu([first] * rounds, Adjacency.REPLACE) == pytest.approx(math.sqrt(rounds) * one_round)
