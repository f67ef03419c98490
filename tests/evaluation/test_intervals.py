from functools import partial

import numpy as np
import pytest
from scipy import stats

from medfl.errors import ShapeError
from medfl.evaluation.intervals import interval, ratio_of_totals, resample_totals
from medfl.evaluation.measures import MeasureBlock, block_from_subjects, merge


def ratio_block(sums: np.ndarray, weights: np.ndarray) -> MeasureBlock:
    return block_from_subjects(("sum", "weight"), np.column_stack([sums, weights]), spread="ratio")


def ratio_interval(blocks: list[MeasureBlock], seed: int = 0, draws: int = 4000) -> tuple[float, float]:
    found = interval(partial(ratio_of_totals, pooled=merge(blocks).totals), blocks, seed=seed, draws=draws)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [5, 10, 30, 100])
def test_a_plain_mean_gets_the_t_interval(n: int) -> None:
    values = np.random.default_rng(n).normal(0.8, 0.05, n)
    low, high = ratio_interval([ratio_block(values, np.ones(n))], draws=20000)
    expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    ratio = (high - low) / (expected[1] - expected[0])
    assert 0.97 < ratio < 1.13
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02 * (high - low))


def test_equal_seeds_give_equal_intervals() -> None:
    blocks = [ratio_block(np.random.default_rng(0).uniform(0.5, 1, 12), np.ones(12))]
    assert ratio_interval(blocks, seed=3) == ratio_interval(blocks, seed=3)
    assert ratio_interval(blocks, seed=3) != ratio_interval(blocks, seed=4)


def test_draws_have_the_moments_of_the_blocks() -> None:
    generator = np.random.default_rng(0)
    blocks = [block_from_subjects(("a", "b"), generator.normal(5, 1, (n, 2))) for n in (60, 200)]
    draws = resample_totals(blocks, 40000, np.random.default_rng(1))
    pooled = merge(blocks)
    assert draws.mean(axis=0) == pytest.approx(pooled.totals, rel=1e-9)
    assert np.cov(draws.T) == pytest.approx(pooled.covariance, rel=0.1, abs=0.05 * pooled.covariance.max())


def coverage(sizes: tuple[int, ...], trials: int) -> float:
    """How often the interval of a mean over studies holds the truth when studies per subject are skewed."""
    generator = np.random.default_rng(sum(sizes))
    truth, hits = 17 / 20, 0
    for trial in range(trials):
        blocks = []
        for n in sizes:
            studies = 1 + generator.geometric(0.4, n) * (generator.random(n) < 0.5)
            own = generator.beta(17, 3, n)
            sums = np.array(
                [np.sum(mean + generator.uniform(-0.05, 0.05, m)) for mean, m in zip(own, studies, strict=True)]
            )
            blocks.append(ratio_block(sums, studies.astype(np.float64)))
        low, high = ratio_interval(blocks, seed=trial, draws=600)
        hits += low <= truth <= high
    return hits / trials


@pytest.mark.parametrize("sizes", [(20,), (50,), (10, 16, 26)])
def test_intervals_cover_with_skewed_studies_per_subject(sizes: tuple[int, ...]) -> None:
    # 600 trials: the standard error of a coverage of 0.95 is 0.009
    assert 0.92 <= coverage(sizes, 600) <= 0.985


def test_one_subject_has_no_interval() -> None:
    lone = block_from_subjects(("a",), np.ones((1, 1)), min_subjects=1)
    assert interval(lambda totals: totals[:, 0], [lone], seed=0) is None
    empty = block_from_subjects(("a",), np.ones((0, 1)))
    assert interval(lambda totals: totals[:, 0], [empty], seed=0) is None
    with pytest.raises(ShapeError):
        resample_totals([lone], 10, np.random.default_rng(0))
    with pytest.raises(ShapeError):
        resample_totals([], 10, np.random.default_rng(0))
    with pytest.raises(ShapeError):
        resample_totals([empty], 11, np.random.default_rng(0))
