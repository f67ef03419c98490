import numpy as np
import pytest

from medfl.attacks.metrics_channel import (
    differences,
    evaluate_claims,
    fit_overlaps,
    guess_rate,
    hit_rate,
    matched,
    overlap_scores,
    spread_in_cells,
)
from medfl.errors import ShapeError
from medfl.results.attack import AttackResult


def judged(claims: np.ndarray, truth: np.ndarray, population: np.ndarray) -> AttackResult:
    subjects = [f"s{number}" for number in range(len(truth))]
    return evaluate_claims(lambda: claims, truth, subjects, population, name="a", setting="b", seed=0, draws=100)


def test_a_claim_counts_for_one_value_only() -> None:
    assert matched(np.array([0.5]), np.array([0.5, 0.5004, 0.9])).sum() == 1
    assert matched(np.array([0.9, 0.5]), np.array([0.9, 0.5, 0.1])).tolist() == [True, True, False]
    assert hit_rate(np.zeros(0), np.array([0.5])) == 0.0


def test_guessing_from_few_values_is_known_to_hit() -> None:
    generator = np.random.default_rng(0)
    population = generator.choice([0.25, 0.75], 1000)
    assert guess_rate(population, generator.choice([0.25, 0.75], 50), generator) > 0.7
    assert guess_rate(generator.uniform(size=1000), generator.uniform(size=10), generator) < 0.1


def test_differences_of_exact_sums_with_and_without_a_subject_are_found_and_of_rounded_ones_are_not() -> None:
    generator = np.random.default_rng(1)
    population, truth = generator.beta(17, 3, 2000), generator.beta(17, 3, 20)
    exact = truth.sum() - np.array([0.0, *truth])

    def possible(delta: np.ndarray) -> np.ndarray:
        return (delta > 0.4) & (delta < 1.0)

    broken = judged(differences([exact], possible), truth, population)
    assert broken.value == 1.0
    assert broken.ci_low > broken.chance + 0.5
    coarse = judged(differences([np.rint(exact / 0.25) * 0.25], possible), truth, population)
    assert coarse.ci_low <= coarse.chance
    noise = judged(differences([generator.uniform(0, 20, 21)], possible), truth, population)
    assert noise.ci_low <= noise.chance


def test_exact_second_moments_give_every_dice_away_and_moments_of_others_do_not() -> None:
    generator = np.random.default_rng(2)
    tp = generator.integers(500, 900, 2010)
    voxels = np.column_stack([tp, generator.integers(20, 300, 2010), generator.integers(20, 300, 2010)]).astype(float)
    own, others, prior = voxels[:5], voxels[5:10], voxels[10:]
    truth = overlap_scores(own)[0]
    rates = []
    for released in (own, others):
        columns = np.column_stack([*overlap_scores(released), released / 1000])
        sums = {"sum": columns.sum(axis=0), "gram": columns.T @ columns}
        rates.append(judged(fit_overlaps(sums, 5, prior, generator, starts=20)[0], truth, overlap_scores(prior)[0]))
    assert rates[0].value > 0.75
    assert rates[0].value > rates[0].chance + 0.4
    assert rates[1].ci_low <= rates[1].chance


def test_cells_of_one_subject_are_read_and_wide_ones_are_not() -> None:
    truth = np.linspace(0.1, 0.9, 9)
    ones = np.ones(9, dtype=np.int64)
    assert hit_rate(spread_in_cells(truth - 5e-4, truth + 5e-4, ones), truth) == 1.0
    assert spread_in_cells(np.array([0.0]), np.array([1.0]), np.array([2])).tolist() == [0.25, 0.75]
    assert len(spread_in_cells(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))) == 0


def test_intervals_resample_subjects_and_not_studies() -> None:
    generator = np.random.default_rng(3)
    truth = generator.uniform(size=40)
    claims = truth[:20]
    wide, narrow = (
        evaluate_claims(lambda: claims, truth, subjects, truth, name="a", setting="", seed=0, draws=400)
        for subjects in (np.repeat(np.arange(4), 10), np.arange(40))
    )
    assert wide.value == narrow.value == 0.5
    assert (wide.subjects, narrow.subjects, wide.positives) == (4, 40, 40)
    assert wide.ci_high - wide.ci_low > 1.5 * (narrow.ci_high - narrow.ci_low)


def test_values_without_subjects_are_refused() -> None:
    with pytest.raises(ShapeError):
        evaluate_claims(lambda: np.zeros(1), np.ones(2), ["a"], np.ones(2), name="a", setting="", seed=0)
    with pytest.raises(ShapeError):
        judged(np.zeros(1), np.zeros(0), np.ones(2))
