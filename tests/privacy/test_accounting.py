import math

import pytest
from dp_accounting import get_epsilon_gaussian

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy import accounting
from medfl.privacy.accounting import ReleaseEvent, check_delta, gaussian_release, non_private
from medfl.privacy.gaussian import GaussianNoise, SeededNoise
from medfl.results.privacy import Release


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
@pytest.mark.parametrize("releases", [1, 4])
def test_calibrated_noise_is_accounted_with_the_epsilon_it_was_calibrated_for(epsilon: float, releases: int) -> None:
    noise = GaussianNoise(clip=2.5, epsilon=epsilon, delta=1e-5, source=SeededNoise(0), releases_per_subject=releases)
    event = gaussian_release(
        sigma=noise.sigma, sensitivity=noise.sensitivity, delta=1e-5, subjects=1000, releases_per_subject=releases
    )
    assert event.epsilon == pytest.approx(epsilon, rel=1e-3)
    assert (event.mechanism, event.delta) == ("GaussianDpEvent", 1e-5)


def test_replacing_a_subject_costs_more_than_adding_one() -> None:
    """Noise of one clip: adding a subject moves the release by 1 clip, replacing one by 2."""
    event = gaussian_release(sigma=1.0, sensitivity=2.0, delta=1e-5, subjects=100)
    assert event.epsilon == pytest.approx(get_epsilon_gaussian(0.5, 1e-5), rel=1e-3)
    assert event.epsilon > 2 * get_epsilon_gaussian(1.0, 1e-5)


def test_more_releases_and_less_noise_cost_more() -> None:
    def epsilon(sigma: float, releases: int) -> float:
        return gaussian_release(
            sigma=sigma, sensitivity=1.0, delta=1e-5, subjects=10, releases_per_subject=releases
        ).epsilon

    assert epsilon(2.0, 1) < epsilon(2.0, 4) == pytest.approx(epsilon(1.0, 1), rel=1e-6)


def test_two_accountants_that_disagree_stop_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "gaussian_delta", lambda epsilon, sigma, sensitivity: math.exp(-epsilon))
    with pytest.raises(PrivacyError, match="two accountants must agree"):
        gaussian_release(sigma=1.0, sensitivity=1.0, delta=1e-5, subjects=10)


def test_what_is_not_proven_has_infinite_epsilon() -> None:
    event = non_private("k directions of every study")
    assert math.isinf(event.epsilon)
    assert event.mechanism == "NonPrivateDpEvent"
    assert event.note


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_no_event_claims_zero_or_nothing(epsilon: float) -> None:
    with pytest.raises(PrivacyError, match="above 0"):
        ReleaseEvent("GaussianDpEvent", epsilon, 1e-5, "replace one subject", "PLD", "hub", "")


@pytest.mark.parametrize(("mechanism", "delta"), [("NonPrivateDpEvent", 1e-5), ("GaussianDpEvent", None)])
def test_a_finite_epsilon_needs_a_proof_and_a_delta(mechanism: str, delta: float | None) -> None:
    with pytest.raises(PrivacyError, match="a finite epsilon needs"):
        ReleaseEvent(mechanism, 1.0, delta, "replace one subject", "PLD", "hub", "")


def test_delta_is_at_most_a_tenth_of_one_subject() -> None:
    check_delta(1e-5, 10_000)
    for delta, subjects in ((1e-5, 10_001), (0.0, 10), (-1e-5, 10), (math.nan, 10), (1e-5, 0)):
        with pytest.raises(ConfigError, match=r"delta must be|at least one subject"):
            check_delta(delta, subjects)
        with pytest.raises(ConfigError, match=r"delta must be|at least one subject"):
            gaussian_release(sigma=1.0, sensitivity=1.0, delta=delta, subjects=subjects)


@pytest.mark.parametrize(("sigma", "sensitivity", "releases"), [(0, 1, 1), (1, 0, 1), (math.inf, 1, 1), (1, 1, 0)])
def test_noise_that_is_no_noise_is_refused(sigma: float, sensitivity: float, releases: int) -> None:
    with pytest.raises(ConfigError, match="sigma and sensitivity"):
        gaussian_release(sigma=sigma, sensitivity=sensitivity, delta=1e-5, subjects=5, releases_per_subject=releases)


def test_an_event_says_everything_the_record_of_a_run_asks_for() -> None:
    event = gaussian_release(sigma=1.0, sensitivity=1.0, delta=1e-5, subjects=10, note="noised features")
    written = Release(
        site="north",
        what="features",
        subjects=10,
        times=1,
        mechanism=event.mechanism,
        adjacency=event.adjacency,
        accountant=event.accountant,
        release_model=event.release_model,
        delta=event.delta,
        epsilon=event.epsilon,
        note=event.note,
    )
    assert Release.model_validate_json(written.model_dump_json()).epsilon == event.epsilon
