import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.attacks.statistics import (
    above_chance,
    auc,
    cluster_bootstrap_auc,
    cluster_bootstrap_difference,
    resampled_aucs,
)
from medfl.errors import ShapeError, TooFewSubjectsError

WEIGHTED = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=12).filter(
    lambda pairs: any(weight for _, weight in pairs)
)


@given(WEIGHTED, WEIGHTED)
def test_the_area_is_the_share_of_ordered_pairs_with_ties_at_one_half(
    genuine: list[tuple[int, int]], impostor: list[tuple[int, int]]
) -> None:
    won = sum(a * b * ((g > i) + 0.5 * (g == i)) for g, a in genuine for i, b in impostor)
    total = sum(a for _, a in genuine) * sum(b for _, b in impostor)
    (g, a), (i, b) = np.array(genuine, float).T, np.array(impostor, float).T
    assert auc(g, i, a, b) == pytest.approx(won / total)
    assert auc(i, g, b, a) == pytest.approx(1 - won / total)


@given(WEIGHTED, WEIGHTED)
def test_a_weight_counts_a_pair_that_many_times(
    genuine: list[tuple[int, int]], impostor: list[tuple[int, int]]
) -> None:
    (g, a), (i, b) = np.array(genuine).T, np.array(impostor).T
    assert auc(np.repeat(g, a), np.repeat(i, b)) == pytest.approx(auc(g, i, a, b))


def test_signal_above_chance_is_zero_for_guessing_and_keeps_its_sign() -> None:
    assert [above_chance(area) for area in (0.5, 1.0, 0.25)] == [0.0, 1.0, -0.5]


@pytest.mark.parametrize(
    ("genuine", "weights"),
    [([], None), ([np.nan], None), ([[1.0]], None), ([1.0], [-1.0]), ([1.0], [0.0]), ([1.0], [1.0, 1.0])],
)
def test_scores_and_weights_that_mean_nothing_are_refused(genuine: list[float], weights: list[float] | None) -> None:
    with pytest.raises(ShapeError):
        auc(genuine, [0.0], weights)


def all_pairs(visits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all genuine pairs of subjects with so many visits, and one impostor pair per two subjects."""
    owners = np.repeat(np.arange(len(visits)), visits * (visits - 1) // 2)
    one, other = np.triu_indices(len(visits), k=1)
    return np.concatenate([owners, one]), np.concatenate([owners, other])


def test_a_draw_weighs_genuine_pairs_by_k_and_impostor_pairs_by_the_product() -> None:
    generator = np.random.default_rng(0)
    first, second = all_pairs(generator.integers(1, 5, 12))
    scores = generator.integers(0, 5, (2, len(first))).astype(float)
    areas = resampled_aucs(scores, first, second, 6, np.random.default_rng(1))
    replay, same = np.random.default_rng(1), first == second
    for draw in areas:
        k = replay.multinomial(12, np.full(12, 1 / 12))
        expected = [auc(row[same], row[~same], k[first[same]], k[first[~same]] * k[second[~same]]) for row in scores]
        assert draw == pytest.approx(expected)


def test_the_interval_knows_its_pairs_and_subjects_and_repeats_with_its_generator() -> None:
    first, second = all_pairs(np.full(20, 3))
    scores = np.random.default_rng(0).normal(first == second)
    names = np.array([f"subject-{number:02}" for number in range(20)])
    found = cluster_bootstrap_auc(scores, names[first], names[second], 200, np.random.default_rng(5))
    assert (found.genuine_pairs, found.impostor_pairs, found.subjects) == (60, 190, 20)
    assert found.low < found.value == auc(scores[:60], scores[60:]) < found.high
    assert found == cluster_bootstrap_auc(scores, first, second, 200, np.random.default_rng(5))


def skewed_trial(generator: np.random.Generator, subjects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of subjects with Pareto visits (2 to 12) and log-normal strength of identity."""
    visits = np.minimum(2 + generator.pareto(1.2, subjects), 12).astype(int)
    first, second = all_pairs(visits)
    strength = 0.25 * generator.lognormal(0.0, 0.9, subjects)
    own = generator.normal(0.0, 0.3, subjects)
    shift = np.where(first == second, strength[first], own[first] + own[second])
    return generator.normal(shift), first, second


def covered_by_pairs(scores: np.ndarray, same: np.ndarray, truth: float, generator: np.random.Generator) -> bool:
    """Return whether the interval of a bootstrap over pairs, which is wrong here, holds the truth."""
    genuine, impostor = scores[same], scores[~same]
    draws = [auc(generator.choice(genuine, len(genuine)), generator.choice(impostor, len(impostor))) for _ in range(60)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return bool(low <= truth <= high)


def test_intervals_over_subjects_hold_the_truth_where_intervals_over_pairs_do_not() -> None:
    scores, first, second = skewed_trial(np.random.default_rng(100), 3000)
    truth = auc(scores[first == second], scores[first != second])
    generator = np.random.default_rng(0)
    trials, by_subject, by_pair = 120, 0, 0
    for trial in range(trials):
        scores, first, second = skewed_trial(generator, 80)
        found = cluster_bootstrap_auc(scores, first, second, 200, generator)
        by_subject += found.low <= truth <= found.high
        if trial % 2:
            by_pair += covered_by_pairs(scores, first == second, truth, generator)
    assert 0.88 <= by_subject / trials <= 0.99  # 95 %, within 3.5 standard errors of 120 trials
    assert by_pair / (trials / 2) < 0.75


def test_two_arms_on_the_same_pairs_are_told_apart_where_their_own_intervals_overlap() -> None:
    generator = np.random.default_rng(3)
    scores, first, second = skewed_trial(generator, 100)
    weaker = scores + generator.normal(0, 0.9, len(scores))
    arms = [cluster_bootstrap_auc(arm, first, second, 400, np.random.default_rng(0)) for arm in (scores, weaker)]
    gain = cluster_bootstrap_difference(scores, weaker, first, second, 400, np.random.default_rng(0))
    assert arms[1].high > arms[0].low
    assert gain.value == pytest.approx(arms[0].value - arms[1].value)
    assert gain.low > 0


def test_an_arm_does_not_differ_from_itself() -> None:
    scores, first, second = skewed_trial(np.random.default_rng(4), 30)
    gain = cluster_bootstrap_difference(scores, scores, first, second, 50, np.random.default_rng(0))
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)


def test_one_linked_subject_has_no_interval() -> None:
    with pytest.raises(TooFewSubjectsError, match="draws had none"):
        cluster_bootstrap_auc([1.0, 0.0, 0.0], [0, 0, 1], [0, 1, 2], 200, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("scores", "first", "second"),
    [
        ([1.0, 0.0], [0, 0], [1, 1]),
        ([1.0, 0.0], [0, 1], [0, 1]),
        ([1.0], [0, 0], [0, 1]),
        ([np.inf, 0.0], [0, 0], [0, 1]),
    ],
)
def test_pairs_of_one_kind_or_without_scores_are_refused(
    scores: list[float], first: list[int], second: list[int]
) -> None:
    with pytest.raises(ShapeError):
        cluster_bootstrap_auc(scores, first, second, 10, np.random.default_rng(0))
