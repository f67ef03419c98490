import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.special import ndtr, ndtri

from medfl.errors import ConfigError
from medfl.privacy.accounting import HUB_SEES_ALL
from medfl.privacy.composition import composed_epsilon
from medfl.privacy.gaussian import SeededNoise, gaussian_delta, smallest
from medfl.privacy.sampled_gaussian import Adjacency, gaussian_ceiling, gaussian_mu
from medfl.privacy.update_accounting import MODELS_ONLY, update_event, update_noise_for, update_release
from medfl.privacy.update_noise import clipped_update, noised

DELTA = 1e-5


def closed_form(mu: float, delta: float) -> float:
    return smallest(lambda epsilon: gaussian_delta(epsilon, 1.0, mu) <= delta, 1.0)


@pytest.mark.parametrize(("noise", "rounds"), [(5.0, 1), (12.0, 30), (40.0, 1000), (0.8, 2)])
def test_an_update_costs_what_the_closed_form_and_the_loss_distribution_say(noise: float, rounds: int) -> None:
    epsilon = update_release(noise_multiplier=noise, rounds=rounds, delta=DELTA, subjects=100).epsilon
    mu = 2.0 * math.sqrt(rounds) / noise
    assert gaussian_mu([noise] * rounds, Adjacency.REPLACE) == pytest.approx(mu)
    assert epsilon == pytest.approx(closed_form(mu, DELTA), rel=1e-3)
    accountant = PLDAccountant(NeighboringRelation.REPLACE_ONE, 1e-3)
    composed = accountant.compose(SelfComposedDpEvent(GaussianDpEvent(noise), rounds)).get_epsilon(DELTA)
    assert epsilon == pytest.approx(composed, rel=2e-3)


@pytest.mark.parametrize(("epsilon", "rounds"), [(1.0, 10), (8.0, 50), (30.0, 3)])
@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_calibrated_noise_keeps_to_its_target_in_the_run_and_in_every_ledger(
    epsilon: float, rounds: int, adjacency: Adjacency
) -> None:
    noise = update_noise_for(epsilon, DELTA, rounds)
    booked = composed_epsilon({update_event(noise, adjacency): rounds}, DELTA, adjacency.value)
    run = update_release(noise_multiplier=noise, rounds=rounds, delta=DELTA, subjects=100).epsilon
    assert 0.99 * epsilon < run <= epsilon
    assert 0.99 * epsilon < booked <= epsilon
    assert closed_form(2 * math.sqrt(rounds) / (0.99 * noise), DELTA) > epsilon


@pytest.mark.parametrize(("noise", "rounds"), [(1.5, 1), (40.0, 30), (100.0, 3000)])
def test_a_ledger_comes_to_the_same_under_both_adjacencies(noise: float, rounds: int) -> None:
    both = [composed_epsilon({update_event(noise, one): rounds}, DELTA, one.value) for one in Adjacency]
    assert both[0] == pytest.approx(both[1], rel=1e-3)


def test_noise_grows_with_the_root_of_the_number_of_rounds() -> None:
    few, many = update_noise_for(4.0, DELTA, 4), update_noise_for(4.0, DELTA, 400)
    assert many == pytest.approx(10 * few, rel=3e-3)


def measured_rate(before: np.ndarray, others: tuple[np.ndarray, np.ndarray], *, noise: float, trials: int) -> float:
    """The rate of true positives at 1 % false ones of the best test between two updates, over noise really drawn."""
    source = SeededNoise(5)
    one, other = (clipped_update({"w": before}, {"w": after}, 1.0) for after in others)
    direction = (other - one) / np.linalg.norm(other - one)

    def seen(update: np.ndarray) -> np.ndarray:
        return np.array(
            [direction @ noised(update, clip=1.0, noise_multiplier=noise, source=source) for _ in range(trials)]
        )

    return float(np.mean(seen(other) > np.quantile(seen(one), 0.99)))


def test_one_subject_may_move_an_update_by_two_clips_and_the_account_of_a_whole_site_does_not_cover_that() -> None:
    """A site whose training goes one way with a subject and the opposite one without it."""
    noise, before, away = 1.0, np.zeros(3), np.array([3.0, 4.0, 0.0])
    rate = measured_rate(before, (before - away, before + away), noise=noise, trials=20_000)
    for_subjects, for_sites = (gaussian_mu([noise], one) for one in (Adjacency.REPLACE, Adjacency.ADD_OR_REMOVE))
    assert rate == pytest.approx(ndtr(ndtri(0.01) + for_subjects), abs=0.03)
    assert rate > 3 * ndtr(ndtri(0.01) + for_sites)


def test_a_whole_site_against_nothing_moves_by_one_clip() -> None:
    noise, before, away = 1.0, np.zeros(3), np.array([3.0, 4.0, 0.0])
    rate = measured_rate(before, (before, before + away), noise=noise, trials=20_000)
    assert rate == pytest.approx(ndtr(ndtri(0.01) + gaussian_mu([noise], Adjacency.ADD_OR_REMOVE)), abs=0.02)


def test_a_release_says_who_adds_the_noise_what_may_be_seen_and_what_is_outside() -> None:
    local, trusted = (
        update_release(noise_multiplier=20.0, rounds=10, delta=1e-3, subjects=50, release_model=model)
        for model in (HUB_SEES_ALL, MODELS_ONLY)
    )
    assert local.epsilon == trusted.epsilon
    for event in (local, trusted):
        assert (event.mechanism, event.adjacency, event.delta) == ("GaussianDpEvent", "replace one subject", 1e-3)
        for words in ("10 rounds", "two clips", "false-positive rate of 1 %", "outside of this guarantee"):
            assert words in event.note
    assert (local.release_model, trusted.release_model) == (HUB_SEES_ALL, MODELS_ONLY)
    assert "noised at the site" in local.note
    assert "hub is trusted" in trusted.release_model
    assert "hub sees updates without noise" in trusted.note
    assert f"epsilon {closed_form(math.sqrt(10) / 20.0, 1e-3):.3g}, which is none for a subject" in trusted.note


def test_rates_an_attacker_can_reach_are_those_of_all_rounds() -> None:
    event = update_release(noise_multiplier=20.0, rounds=25, delta=1e-3, subjects=50)
    assert f"rate {ndtr(ndtri(0.01) + 0.5):.3f}" in event.note
    assert f"advantage of {2 * ndtr(0.25) - 1:.3f}" in event.note


@pytest.mark.parametrize(
    ("epsilon", "rate", "advantage"), [(1, 0.020, 0.107), (2, 0.034, 0.198), (4, 0.081, 0.356), (8, 0.254, 0.595)]
)
def test_the_rates_that_the_documents_name_for_an_epsilon_come_out(
    epsilon: float, rate: float, advantage: float
) -> None:
    ceiling = gaussian_ceiling(2.0 / update_noise_for(epsilon, DELTA, 1))
    assert ceiling.true_positive_rate == pytest.approx(rate, abs=6e-4)
    assert ceiling.advantage == pytest.approx(advantage, abs=6e-4)


def test_the_noise_and_the_epsilon_of_a_whole_site_that_the_documents_name_come_out() -> None:
    noise = update_noise_for(8.0, DELTA, 20)
    assert noise == pytest.approx(5.37, abs=0.005)
    assert update_noise_for(1.0, DELTA, 20) == pytest.approx(33.4, abs=0.05)
    assert closed_form(gaussian_mu([noise] * 20, Adjacency.ADD_OR_REMOVE), DELTA) == pytest.approx(3.55, abs=0.005)


def test_claims_without_a_ground_are_refused() -> None:
    with pytest.raises(ConfigError, match="delta must be"):
        update_release(noise_multiplier=20.0, rounds=10, delta=1e-3, subjects=101)
    with pytest.raises(ConfigError, match="released as one of"):
        update_release(noise_multiplier=20.0, rounds=10, delta=1e-3, subjects=10, release_model="nobody looks")
    for noise, rounds in ((0.0, 1), (math.inf, 1), (1.0, 0)):
        with pytest.raises(ConfigError, match=r"noise_multiplier|step"):
            update_release(noise_multiplier=noise, rounds=rounds, delta=1e-3, subjects=10)
    with pytest.raises(ConfigError, match="target epsilon"):
        update_noise_for(0.0, DELTA, 1)
