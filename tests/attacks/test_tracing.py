import numpy as np
import pytest

from medfl.attacks.statistics import auc
from medfl.attacks.tracing import (
    Comparisons,
    Population,
    evaluate_tracing,
    jackknife_error,
    log_ratios,
    nearness,
    tracing_control,
)
from medfl.errors import ShapeError, TooFewSubjectsError


def played(n: int, columns: int, seed: int, *, member: bool = True) -> tuple[Comparisons, float]:
    """Let every subject stand aside in turn; also the area against people that never were in the sums."""
    generator = np.random.default_rng(seed)
    mixing = 0.3 * generator.standard_normal((columns, columns)) + np.eye(columns)
    subjects, others, strangers = (generator.standard_normal((m, columns)) @ mixing for m in (n, 400, 2000))
    population, total = Population.of(others), subjects.sum(axis=0)
    if not member:
        total = (generator.standard_normal((n, columns)) @ mixing).sum(axis=0)
    scores, twice = [], []
    for own in range(n):
        other = int(generator.choice(np.delete(np.arange(n), own)))
        changed = total - subjects[own] + subjects[other] if member else total
        scores.append(log_ratios(changed, n, subjects, population))
        twice.append(np.arange(n) == other)
    inside, outside = (log_ratios(total, n, people, population) for people in (subjects, strangers))
    return Comparisons.of(np.stack(scores), np.arange(n), np.stack(twice)), auc(inside, outside)


@pytest.mark.parametrize(("n", "columns", "expected"), [(40, 40, 0.76), (60, 15, 0.64), (200, 4, 0.54)])
def test_sums_tell_by_the_root_of_their_number_over_that_of_subjects(n: int, columns: int, expected: float) -> None:
    found = [played(n, columns, seed)[0].area(0, 50)[0] for seed in range(20)]
    assert abs(float(np.mean(found)) - expected) < 0.05


def test_a_subject_that_stands_aside_is_as_good_a_stranger_as_one_that_never_was_there() -> None:
    both = np.array([(found.area(0, 50)[0], fresh) for found, fresh in (played(40, 10, seed) for seed in range(30))])
    assert abs(float(np.diff(both.mean(axis=0))[0])) < 0.03


def test_intervals_of_the_jackknife_cover_what_other_subjects_would_give() -> None:
    found = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        subjects, population = generator.standard_normal((60, 12)), Population.of(generator.standard_normal((300, 12)))
        total, order = subjects.sum(axis=0), generator.permutation(60)
        other = order[(np.arange(60) + 1) % 60]
        scores = [
            log_ratios(total - subjects[a] + subjects[b], 60, subjects, population)
            for a, b in zip(order, other, strict=True)
        ]
        compared = Comparisons.of(np.stack(scores), order, np.arange(60) == other[:, None])
        error = jackknife_error(log_ratios, total, subjects, population, generator)
        row = evaluate_tracing(
            compared, error=error, name="", setting="", others=300, budget="", seed=0, seconds=0.0, draws=100
        )
        found.append((row.value, row.ci_low, row.ci_high, error))
    values, low, high, errors = np.array(found).T
    assert np.mean((low <= values.mean()) & (values.mean() <= high)) >= 0.9
    assert values.std() < errors.mean() < 2.5 * values.std()


def test_sums_over_other_people_tell_nothing() -> None:
    controls = [tracing_control("null", "others", played(40, 10, seed, member=False)[0], seed=0) for seed in range(10)]
    assert sum(one.passed is True for one in controls) >= 9
    assert abs(float(np.mean([one.value for one in controls])) - 0.5) < 0.03


def test_equal_contributions_cannot_be_told_apart() -> None:
    generator = np.random.default_rng(0)
    population = Population.of(generator.integers(0, 2, (100, 3)).astype(float))
    subjects = np.ones((20, 3))
    scores = np.stack([log_ratios(subjects.sum(axis=0), 20, subjects, population)] * 20)
    found = Comparisons.of(scores, np.arange(20), np.zeros((20, 20), dtype=bool))
    assert found.area(0, 50)[0] == pytest.approx(0.5)


def test_the_log_ratio_is_that_of_two_normal_densities() -> None:
    generator = np.random.default_rng(1)
    population = Population.of(generator.standard_normal((500, 3)) * [1.0, 5.0, 0.1] + 2.0)
    candidates, total, n = generator.standard_normal((6, 3)) + 2.0, np.array([25.0, 18.0, 20.5]), 10
    own, mean = ((one - population.mean) @ population.whitening for one in (candidates, total / n))
    inside = -0.5 * ((mean - own / n) ** 2).sum(axis=1) * n**2 / (n - 1)
    outside = -0.5 * n * (mean**2).sum()
    assert np.allclose(log_ratios(total, n, candidates, population), inside - outside)
    assert np.allclose(nearness(total, n, candidates, population), -((own - mean) ** 2).sum(axis=1))


def test_nearness_does_not_mind_a_site_of_its_own_kind() -> None:
    areas: dict[str, list[float]] = {"tracing": [], "nearness": []}
    for seed in range(20):
        generator = np.random.default_rng(seed)
        subjects, strangers = generator.standard_normal((10, 8)) + 2.0, generator.standard_normal((2000, 8)) + 2.0
        population = Population.of(generator.standard_normal((200, 8)))
        for name, attack in (("tracing", log_ratios), ("nearness", nearness)):
            scores = [attack(subjects.sum(axis=0), 10, people, population) for people in (subjects, strangers)]
            areas[name].append(auc(*scores))
    assert np.mean(areas["nearness"]) > 0.58
    assert np.mean(areas["nearness"]) > np.mean(areas["tracing"])


def test_joined_comparisons_are_those_of_each() -> None:
    parts = [played(20, 5, seed)[0] for seed in range(2)]
    joined = Comparisons.joined(parts)
    assert joined.won.shape == (40, 40)
    assert np.isnan(joined.won[:20, 20:]).all()
    assert joined.area(0, 50)[0] == pytest.approx(np.mean([part.area(0, 50)[0] for part in parts]))


def test_a_result_says_who_was_compared_and_equal_seeds_give_equal_results() -> None:
    found = played(30, 6, 0)[0]
    rows = [
        evaluate_tracing(found, name="tracing", setting="x", others=400, budget="", seed=3, seconds=0.0, draws=100)
        for _ in range(2)
    ]
    assert rows[0] == rows[1]
    assert (rows[0].family, rows[0].metric, rows[0].knowledge) == ("released sums", "auc", "sums")
    assert (rows[0].subjects, rows[0].positives, rows[0].negatives, rows[0].attacker_subjects) == (30, 30, 30, 400)
    assert rows[0].ci_low <= rows[0].value <= rows[0].ci_high


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(TooFewSubjectsError, match="8"):
        Population.of(np.eye(7))
    with pytest.raises(ShapeError, match="differ"):
        Population.of(np.ones((10, 2)))
    with pytest.raises(ShapeError, match="finite"):
        Population.of(np.full((10, 2), np.nan))
    population = Population.of(np.random.default_rng(0).standard_normal((10, 2)))
    with pytest.raises(ShapeError, match="D = 2"):
        log_ratios(np.ones(3), 5, np.ones((1, 3)), population)
    with pytest.raises(ShapeError, match="at least 2 subjects"):
        log_ratios(np.ones(2), 1, np.ones((1, 2)), population)
    with pytest.raises(ShapeError, match="strangers"):
        Comparisons.of(np.ones((2, 3)), np.arange(3), np.zeros((2, 3), dtype=bool))
    few = Comparisons.of(np.ones((3, 3)), np.arange(3), np.zeros((3, 3), dtype=bool))
    with pytest.raises(TooFewSubjectsError, match="4"):
        few.area(0, 10)
    with pytest.raises(TooFewSubjectsError, match="4"):
        jackknife_error(log_ratios, np.ones(2), np.ones((3, 2)), population, np.random.default_rng(0))
