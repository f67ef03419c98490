import math

import pytest

from medfl.errors import ConfigError
from medfl.privacy.composition import PoissonSampledGaussian, SelfComposed, composed_epsilon
from medfl.privacy.noise_planning import planned_noise
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian, epsilon_of, noise_for

DELTA = 1e-5


def booked(noise: float, *, rate: float, steps_per_round: int, rounds: int, adjacency: Adjacency) -> float:
    """What a ledger says after the last round."""
    event = SelfComposed(PoissonSampledGaussian(rate, noise), steps_per_round)
    return composed_epsilon({event: rounds}, DELTA, adjacency.value)


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps_per_round", "rounds", "adjacency"),
    [
        (8.0, 0.1, 10, 30, Adjacency.ADD_OR_REMOVE),
        (1.0, 0.1, 30, 10, Adjacency.REPLACE),  # the ledger rounds up
        (0.1, 0.01, 100, 30, Adjacency.ADD_OR_REMOVE),  # by 1.6 %
        (3.0, 1.0, 1, 100, Adjacency.REPLACE),
    ],
)
def test_the_run_and_the_ledger_keep_to_the_target_and_hardly_less_noise_does_not(
    epsilon: float, rate: float, steps_per_round: int, rounds: int, adjacency: Adjacency
) -> None:
    noise = planned_noise(
        epsilon, DELTA, rate=rate, steps_per_round=steps_per_round, rounds=rounds, adjacency=adjacency
    )

    def both(multiplier: float) -> float:
        ledger = booked(multiplier, rate=rate, steps_per_round=steps_per_round, rounds=rounds, adjacency=adjacency)
        run = epsilon_of([SampledGaussian(multiplier, rate, steps_per_round * rounds)], DELTA, adjacency)
        return max(ledger, run)

    assert both(noise) <= epsilon
    assert both(noise * 0.995) > epsilon


def test_the_ledger_alone_may_ask_for_more_noise() -> None:
    first = noise_for(0.1, DELTA, rate=0.01, steps=3000, adjacency=Adjacency.REPLACE)
    assert booked(first, rate=0.01, steps_per_round=100, rounds=30, adjacency=Adjacency.REPLACE) > 0.1
    noise = planned_noise(0.1, DELTA, rate=0.01, steps_per_round=100, rounds=30, adjacency=Adjacency.REPLACE)
    assert first < noise < 1.03 * first


def test_how_steps_are_spread_over_rounds_does_not_matter() -> None:
    few = planned_noise(2.0, DELTA, rate=0.2, steps_per_round=25, rounds=4, adjacency=Adjacency.ADD_OR_REMOVE)
    many = planned_noise(2.0, DELTA, rate=0.2, steps_per_round=1, rounds=100, adjacency=Adjacency.ADD_OR_REMOVE)
    assert few == pytest.approx(many, rel=2e-3)


@pytest.mark.slow
def test_a_target_beyond_what_a_ledger_resolves_gets_noise_that_it_does() -> None:
    """A mean privacy loss above 200 is called infinite there."""
    noise = planned_noise(500.0, DELTA, rate=0.3, steps_per_round=1, rounds=100, adjacency=Adjacency.REPLACE)
    assert booked(noise, rate=0.3, steps_per_round=1, rounds=100, adjacency=Adjacency.REPLACE) <= 500.0


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps_per_round", "rounds", "words"),
    [
        (0.0, 0.1, 1, 1, "target epsilon"),
        (math.inf, 0.1, 1, 1, "target epsilon"),
        (1.0, 0.0, 1, 1, "rate"),
        (1.0, 0.1, 0, 1, "at least one step"),
        (1.0, 0.1, 1, 0, "at least one step"),
        (1e-9, 0.5, 10, 10, "cannot be"),
    ],
)
def test_plans_that_are_none_are_refused(
    epsilon: float, rate: float, steps_per_round: int, rounds: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        planned_noise(
            epsilon, DELTA, rate=rate, steps_per_round=steps_per_round, rounds=rounds, adjacency=Adjacency.REPLACE
        )
