import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medfl.attacks.operating_points import d_sys, d_sys_null, equal_error_rate, tpr_at_fpr
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=15)


def test_the_equal_error_rate_of_two_normals_is_known() -> None:
    generator = np.random.default_rng(0)
    found = equal_error_rate(generator.normal(1, 1, 40_000), generator.normal(-1, 1, 40_000))
    assert found == pytest.approx(stats.norm.cdf(-1), abs=0.006)


@given(SCORES, SCORES)
def test_swapping_the_kinds_of_pairs_mirrors_the_equal_error_rate(genuine: list[int], impostor: list[int]) -> None:
    found = equal_error_rate(genuine, impostor)
    assert 0 <= found <= 1
    negated = equal_error_rate([-i for i in impostor], [-g for g in genuine])
    assert found == pytest.approx(negated)
    assert equal_error_rate(impostor, genuine) == pytest.approx(1 - found)


def test_equal_error_rates_at_the_ends_are_exact() -> None:
    assert equal_error_rate([2, 3], [0, 1]) == 0.0
    assert equal_error_rate([0, 1], [2, 3]) == 1.0
    assert equal_error_rate([5, 5], [5]) == 0.5
    assert equal_error_rate([1, 3], [0, 2]) == 0.5
    assert equal_error_rate([1, 3, 4, 5], [0, 0, 2, 0]) == 0.25


def test_a_rate_is_refused_below_thirty_false_matches_and_the_message_says_how_many_pairs_it_needs() -> None:
    genuine = np.arange(5.0)
    with pytest.raises(TooFewSubjectsError, match="needs at least 3000 impostor pairs, found 2999"):
        tpr_at_fpr(genuine, np.zeros(2999), 0.01)
    assert tpr_at_fpr(genuine, np.zeros(3000), 0.01) == 0.8


def test_the_threshold_never_lets_more_impostors_through_than_allowed() -> None:
    impostor = np.arange(300.0)
    assert tpr_at_fpr([269.0, 269.5, 270.0, 500.0], impostor, 0.1) == 0.75
    assert tpr_at_fpr([1.0, 2.0], np.ones(300), 0.1) == 0.5


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.2, 0.5]))
def test_impostors_as_good_as_genuine_pairs_are_found_at_the_rate_itself(seed: int, fpr: float) -> None:
    impostor = np.random.default_rng(seed).integers(0, 60, 400)
    assert tpr_at_fpr(impostor, impostor, fpr) <= fpr


def test_scores_that_never_overlap_link_fully_and_equal_ones_not_at_all() -> None:
    mated, other = np.linspace(2, 3, 50), np.linspace(0, 1, 50)
    assert d_sys(mated, other) == 1.0
    assert d_sys(mated, mated) == 0.0
    assert d_sys(np.ones(30), np.ones(30)) == 0.0


def test_linkability_follows_its_formula_on_two_bins() -> None:
    mated, other = [0.0] * 2 + [1.0] * 8, [0.0] * 6 + [1.0] * 4
    ratio = 0.8 / 0.4
    assert d_sys(mated, other, bins=2) == pytest.approx(0.8 * (2 * ratio / (1 + ratio) - 1))
    assert d_sys(mated, other, bins=2, omega=0.5) == pytest.approx(0.0)
    both = 0.2 * (2 * 5 * 0.2 / 0.6 / (1 + 5 * 0.2 / 0.6) - 1) + 0.8 * (2 * 10 / 11 - 1)
    assert d_sys(mated, other, bins=2, omega=5.0) == pytest.approx(both)


def test_chance_alone_stays_at_its_null_and_a_shift_does_not() -> None:
    generator = np.random.default_rng(0)
    chance, above = [], []
    for _ in range(60):
        mated, other = generator.normal(0, 1, 200), generator.normal(0, 1, 400)
        value, mean, limit = d_sys_null(mated, other, 99, generator)
        chance.append(value - mean)
        above.append(value > limit)
    assert abs(np.mean(chance)) < 0.01
    assert np.mean(above) < 0.2
    value, mean, limit = d_sys_null(mated + 1, other, 99, generator)
    assert value == d_sys(mated + 1, other)
    assert value > limit > mean > 0


def test_linkability_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="omega"):
        d_sys([0.0, 1.0], [0.0, 1.0], omega=0.0)
    with pytest.raises(ConfigError, match="bins"):
        d_sys([0.0, 1.0], [0.0, 1.0], bins=1)
    with pytest.raises(ConfigError, match="permutations"):
        d_sys_null([0.0], [1.0], 0, np.random.default_rng(0))


@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0]]])
def test_scores_that_mean_nothing_are_refused(bad: list[float]) -> None:
    for measure in (equal_error_rate, d_sys, lambda one, other: tpr_at_fpr(one, other, 0.1)):
        with pytest.raises(ShapeError):
            measure(bad, [0.0])
        with pytest.raises(ShapeError):
            measure([0.0], bad)
    with pytest.raises(ConfigError):
        tpr_at_fpr([0.0], [0.0], 1.0)
