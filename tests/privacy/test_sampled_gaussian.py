import math

import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import compute_epsilon
from scipy.special import logsumexp
from scipy.stats import norm

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy import sampled_gaussian
from medfl.privacy.gaussian import gaussian_delta, smallest
from medfl.privacy.sampled_gaussian import (
    Adjacency,
    SampledGaussian,
    epsilon_of,
    gaussian_ceiling,
    gaussian_mu,
    growing_noise,
    image_level_epsilon,
    membership_ceiling,
    noise_for,
    training_release,
)

WORKED = SampledGaussian(1.0, 64 / 5000, 3000)
DELTA = 1e-5


@pytest.mark.parametrize(("adjacency", "epsilon"), [(Adjacency.ADD_OR_REMOVE, 4.21), (Adjacency.REPLACE, 7.06)])
def test_the_worked_vectors_come_out(adjacency: Adjacency, epsilon: float) -> None:
    assert epsilon_of([WORKED], DELTA, adjacency) == pytest.approx(epsilon, abs=0.006)


@pytest.mark.parametrize(("adjacency", "moved"), [(Adjacency.ADD_OR_REMOVE, 1.0), (Adjacency.REPLACE, 2.0)])
def test_full_participation_is_exactly_gaussian(adjacency: Adjacency, moved: float) -> None:
    """mu = sqrt(T) C / sigma; replacing moves the sum by 2 C."""
    mu = moved * math.sqrt(9) / 4.0
    assert gaussian_mu([4.0] * 9, adjacency) == pytest.approx(mu)
    closed = smallest(lambda value: gaussian_delta(value, 1.0, mu) <= DELTA, 1.0)
    assert epsilon_of([SampledGaussian(4.0, 1.0, 9)], DELTA, adjacency) == pytest.approx(closed, rel=1e-3)


def test_a_rate_close_to_one_is_close_to_full_participation() -> None:
    for adjacency in Adjacency:
        near = epsilon_of([SampledGaussian(4.0, 0.999, 9)], DELTA, adjacency)
        assert near == pytest.approx(epsilon_of([SampledGaussian(4.0, 1.0, 9)], DELTA, adjacency), rel=0.01)


def test_phases_compose_like_the_steps_they_consist_of() -> None:
    halves = [SampledGaussian(1.0, 0.1, 50), SampledGaussian(1.0, 0.1, 50)]
    for adjacency in Adjacency:
        whole = epsilon_of([SampledGaussian(1.0, 0.1, 100)], DELTA, adjacency)
        assert epsilon_of(halves, DELTA, adjacency) == pytest.approx(whole, rel=2e-3)


def test_replacing_costs_more_than_adding_and_less_than_its_renyi_bound() -> None:
    """The Renyi divergence of the two mixtures, integrated on a grid: an upper bound by another road."""
    sigma, rate, steps = 1.0, 0.05, 200
    phase = SampledGaussian(sigma, rate, steps)
    orders = np.concatenate([np.linspace(1.1, 8, 70), np.linspace(8.5, 40, 40)])
    x = np.linspace(-12, 92, 20_001)
    ones = [norm.logpdf(x, center, sigma) for center in (0.0, 1.0, -1.0)]
    p, q = (np.logaddexp(math.log(1 - rate) + ones[0], math.log(rate) + ones[index]) for index in (1, 2))
    renyi = [(logsumexp(a * p - (a - 1) * q) + math.log(x[1] - x[0])) / (a - 1) for a in orders]
    bound, _ = compute_epsilon(orders, steps * np.array(renyi), DELTA)
    replaced = epsilon_of([phase], DELTA, Adjacency.REPLACE)
    assert epsilon_of([phase], DELTA, Adjacency.ADD_OR_REMOVE) < replaced < bound < 1.3 * replaced


@pytest.mark.slow
def test_the_accountants_agree_over_the_range_of_practice() -> None:
    for phase in (SampledGaussian(0.6, 0.1, 100), SampledGaussian(20.0, 0.9, 50), SampledGaussian(3.0, 0.5, 200)):
        for adjacency in Adjacency:
            assert epsilon_of([phase], 1e-4, adjacency) > 0


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_accountants_that_disagree_stop_the_claim(adjacency: Adjacency, monkeypatch: pytest.MonkeyPatch) -> None:
    phase = SampledGaussian(1.0, 0.1, 10)
    relation = sampled_gaussian.NeighboringRelation.ADD_OR_REMOVE_ONE
    wrong = 1e-3 if adjacency is Adjacency.ADD_OR_REMOVE else DELTA
    honest = PLDAccountant.get_epsilon
    if adjacency is Adjacency.REPLACE:  # the other relation is used by mistake

        def misled(_: object, interval: float) -> PLDAccountant:
            return PLDAccountant(relation, interval)

        monkeypatch.setattr(sampled_gaussian, "PLDAccountant", misled)
    else:  # delta is read wrongly
        monkeypatch.setattr(PLDAccountant, "get_epsilon", lambda self, delta: honest(self, max(delta, wrong)))
    with pytest.raises(PrivacyError, match="two accountants must agree"):
        epsilon_of([phase], DELTA, adjacency)


@pytest.mark.parametrize(
    "adjacency", [pytest.param(Adjacency.ADD_OR_REMOVE, marks=pytest.mark.slow), Adjacency.REPLACE]
)
def test_calibrated_noise_keeps_to_its_target_and_hardly_less_does_not(adjacency: Adjacency) -> None:
    noise = noise_for(2.0, DELTA, rate=0.1, steps=40, adjacency=adjacency)
    assert epsilon_of([SampledGaussian(noise, 0.1, 40)], DELTA, adjacency) <= 2.0
    assert epsilon_of([SampledGaussian(0.99 * noise, 0.1, 40)], DELTA, adjacency) > 2.0


def test_image_level_privacy_means_little_for_a_patient_with_many_images() -> None:
    """A subject drawn as one costs the same with any number of images."""
    few = SampledGaussian(1.0, 0.1, 20)
    alone = epsilon_of([few], DELTA, Adjacency.ADD_OR_REMOVE)
    assert image_level_epsilon(few, DELTA, 1) == pytest.approx(alone, rel=0.01)
    assert image_level_epsilon(few, DELTA, 3) > 2 * alone


@pytest.mark.slow
@pytest.mark.parametrize(("images", "epsilon"), [(2, 9.54), (4, 22.82), (8, 59.06)])
def test_image_level_privacy_is_all_but_gone_at_more_images(images: int, epsilon: float) -> None:
    assert image_level_epsilon(WORKED, DELTA, images) == pytest.approx(epsilon, abs=0.02)


def test_rates_an_attacker_can_reach_are_those_of_the_closed_form() -> None:
    full = membership_ceiling([SampledGaussian(2.0, 1.0, 4)], DELTA, Adjacency.ADD_OR_REMOVE)
    closed = gaussian_ceiling(1.0)
    assert full.true_positive_rate == pytest.approx(closed.true_positive_rate, abs=1e-4)
    assert full.advantage == pytest.approx(closed.advantage, abs=1e-4)
    assert closed.true_positive_rate == pytest.approx(norm.cdf(norm.ppf(0.01) + 1.0))


def test_nobody_reaches_more_than_one_and_hardly_anything_is_hardly_more_than_chance() -> None:
    weak = membership_ceiling([SampledGaussian(0.3, 0.5, 50)], DELTA, Adjacency.REPLACE)
    strong = membership_ceiling([SampledGaussian(100.0, 0.1, 5)], DELTA, Adjacency.ADD_OR_REMOVE)
    assert 0.99 < weak.true_positive_rate <= 1.0
    assert 0.01 <= strong.true_positive_rate < 0.011
    assert strong.advantage < 0.002


def test_noise_that_grows_bounds_the_total_for_ever() -> None:
    first = gaussian_mu([growing_noise(2.0, 0)], Adjacency.ADD_OR_REMOVE)
    long = gaussian_mu([growing_noise(2.0, step) for step in range(20_000)], Adjacency.ADD_OR_REMOVE)
    assert first < long < first * math.pi / math.sqrt(6)


def test_a_release_says_how_it_was_made_and_what_an_attacker_can_reach() -> None:
    event = training_release(
        [SampledGaussian(2.0, 0.2, 10)], delta=1e-3, subjects=100, adjacency=Adjacency.REPLACE, note="weights."
    )
    assert (event.mechanism, event.adjacency, event.delta) == ("PoissonSampledDpEvent", "replace one subject", 1e-3)
    assert event.epsilon == epsilon_of([SampledGaussian(2.0, 0.2, 10)], 1e-3, Adjacency.REPLACE)
    for words in (
        "weights.",
        "Poisson sampling of subjects",
        "10 steps",
        "probability 0.2",
        "false-positive rate of 1 %",
    ):
        assert words in event.note


def test_delta_must_be_small_beside_the_number_of_subjects() -> None:
    with pytest.raises(ConfigError, match="delta must be"):
        training_release([WORKED], delta=1e-3, subjects=101, adjacency=Adjacency.REPLACE)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(0, 0.1, 1), (math.inf, 0.1, 1), (1, 0, 1), (1, 1.1, 1), (1, math.nan, 1), (1, 0.1, 0)]
)
def test_steps_that_are_none_are_refused(noise: float, rate: float, steps: int) -> None:
    with pytest.raises(ConfigError, match=r"noise_multiplier|rate|step"):
        SampledGaussian(noise, rate, steps)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="phase"):
        epsilon_of([], DELTA, Adjacency.REPLACE)
    with pytest.raises(ConfigError, match="delta"):
        epsilon_of([WORKED], 0.0, Adjacency.REPLACE)
    with pytest.raises(ConfigError, match="target epsilon"):
        noise_for(math.inf, DELTA, rate=0.1, steps=1, adjacency=Adjacency.REPLACE)
    with pytest.raises(ConfigError, match="image"):
        image_level_epsilon(WORKED, DELTA, 0)
