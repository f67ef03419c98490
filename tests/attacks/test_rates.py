import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medfl.attacks.rates import (
    clopper_pearson,
    holm,
    minimum_detectable_auc,
    no_narrower_than_exact,
    subjects_for_margin,
    wilson,
)
from medfl.errors import ConfigError, ShapeError

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_no_success_in_n_trials_leaves_room_for_about_three_in_n() -> None:
    low, high = clopper_pearson(0, 1000, level=0.9)
    assert low == 0.0
    assert high == pytest.approx(3 / 1000, rel=0.01)


def test_exact_limits_are_where_the_binomial_tails_hold_half_the_rest() -> None:
    low, high = clopper_pearson(7, 40)
    assert stats.binom.sf(6, 40, low) == pytest.approx(0.025)
    assert stats.binom.cdf(7, 40, high) == pytest.approx(0.025)


def test_the_score_interval_has_the_published_closed_form() -> None:
    z, n, p = stats.norm.ppf(0.975), 40, 7 / 40
    center, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson(7, 40) == pytest.approx(((center - half) / (1 + z**2 / n), (center + half) / (1 + z**2 / n)))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_both_intervals_hold_the_observed_rate_and_mirror_with_failures(case: tuple[int, int]) -> None:
    k, n = case
    for interval in (clopper_pearson, wilson):
        low, high = interval(k, n)
        assert 0 <= low <= k / n + 1e-12
        assert k / n - 1e-12 <= high <= 1
        assert interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials", "level"), [(1, 0, 0.9), (3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)])
def test_rates_of_nothing_are_refused(successes: int, trials: int, level: float) -> None:
    with pytest.raises(ConfigError):
        clopper_pearson(successes, trials, level)


def test_the_smallest_p_value_pays_for_all_tests_and_the_largest_for_itself() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES)
def test_adjusted_values_lie_between_the_raw_ones_and_bonferroni_in_the_same_order(p_values: list[float]) -> None:
    raw, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, len(raw) * raw)).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("values", [[], [1.2], [float("nan")], [[0.1]]])
def test_p_values_that_are_none_are_refused(values: list[float]) -> None:
    with pytest.raises(ShapeError):
        holm(values)


def test_a_one_sided_test_finds_the_minimum_detectable_area_with_its_power() -> None:
    sd = 0.02
    area = minimum_detectable_auc(sd, power=0.9)
    found = np.random.default_rng(0).normal(area, sd, 40_000) > 0.5 + stats.norm.ppf(0.95) * sd
    assert found.mean() == pytest.approx(0.9, abs=0.006)  # 4 standard errors


def test_no_area_over_one_is_promised() -> None:
    assert minimum_detectable_auc(0.5) == 1.0


def test_half_the_distance_to_the_margin_needs_four_times_the_subjects() -> None:
    assert subjects_for_margin(0.035, 100, 0.05) == 303
    assert subjects_for_margin(0.035, 100, 0.025) == 1212


@given(st.floats(0.005, 0.2), st.integers(1, 5000), st.floats(0.005, 0.5), st.floats(0.5, 0.99))
def test_so_many_subjects_bring_the_detectable_distance_down_to_the_margin(
    sd: float, subjects: int, distance: float, power: float
) -> None:
    needed = subjects_for_margin(sd, subjects, distance, power=power)
    z = stats.norm.ppf(0.95) + stats.norm.ppf(power)
    assert z * sd * (subjects / needed) ** 0.5 <= distance * (1 + 1e-9)
    assert needed == 1 or z * sd * (subjects / (needed - 1)) ** 0.5 > distance * (1 - 1e-9)


@pytest.mark.parametrize(("sd", "subjects", "distance"), [(0.0, 10, 0.1), (0.1, 0, 0.1), (0.1, 10, -0.1)])
def test_plans_without_spread_subjects_or_distance_are_refused(sd: float, subjects: int, distance: float) -> None:
    with pytest.raises(ConfigError):
        subjects_for_margin(sd, subjects, distance)
    with pytest.raises(ConfigError):
        minimum_detectable_auc(-1.0)


def test_a_rate_of_nothing_but_failures_has_an_interval_with_width() -> None:
    low, high = no_narrower_than_exact(0.0, 0.0, 0.0, 30)
    assert (low, high) == clopper_pearson(0, 30)
    assert no_narrower_than_exact(0.5, 0.1, 0.9, 30) == (0.1, 0.9)
