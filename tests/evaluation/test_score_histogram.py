import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from medfl.errors import ShapeError
from medfl.evaluation.score_histogram import (
    CELLS,
    ScoreHistogram,
    auroc_bounds,
    average_precision_bounds,
    design_effect,
    histogram_from_scores,
    score_cells,
)


def draw(seed: int, n: int, *, levels: int, separation: float) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Subjects, labels and scores; few `levels` make many ties."""
    generator = np.random.default_rng(seed)
    labels = np.r_[np.zeros(n // 2, int), np.ones(n - n // 2, int)]
    logits = generator.normal(0, 2, n) + separation * (2 * labels - 1)
    scores = np.round(1 / (1 + np.exp(-logits)) * levels) / levels
    return [f"s{i}" for i in generator.integers(0, n, n)], labels, scores


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.sampled_from([3, 20, 10**6]), st.floats(-1, 4))
def test_true_area_and_precision_lie_within_the_bounds(seed: int, sites: int, levels: int, separation: float) -> None:
    positives, negatives, labels, scores = [], [], [], []
    for site in range(sites):
        ids, truth, score = draw(seed + site, 60, levels=levels, separation=separation)
        for value, histograms in ((1, positives), (0, negatives)):
            own = [subject for subject, label in zip(ids, truth, strict=True) if label == value]
            made = histogram_from_scores(own, score[truth == value])
            assert made is not None
            histograms.append(made)
        labels.append(truth)
        scores.append(score)
    truth, score = np.concatenate(labels), np.concatenate(scores)
    for bounds, exact in (
        (auroc_bounds, roc_auc_score(truth, score)),
        (average_precision_bounds, average_precision_score(truth, score)),
    ):
        low, high = (float(end[0]) for end in bounds(positives, negatives))
        assert 0 <= low <= exact + 1e-9
        assert exact - 1e-9 <= high <= 1 + 1e-9


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(5, 80), st.integers(3, 8))
def test_every_cell_describes_enough_subjects(seed: int, n: int, min_subjects: int) -> None:
    generator = np.random.default_rng(seed)
    ids = [f"s{i}" for i in generator.integers(0, n, n)]
    scores = generator.beta(0.5, 0.5, n)
    made = histogram_from_scores(ids, scores, min_subjects=min_subjects)
    if len(set(ids)) < min_subjects:
        assert made is None
        return
    assert made is not None
    assert made.counts.sum() == n
    cells = score_cells(scores)
    for low, high, count in zip(made.low, made.high, made.counts, strict=True):
        inside = (cells >= low) & (cells < high)
        assert inside.sum() == count
        assert len({subject for subject, is_in in zip(ids, inside, strict=True) if is_in}) >= min_subjects


def test_cells_follow_the_order_of_the_scores() -> None:
    scores = np.sort(np.random.default_rng(0).uniform(0, 1, 5000))
    cells = score_cells(scores)
    assert (np.diff(cells) >= 0).all()
    assert score_cells(np.array([0.0, 0.5, 1.0])).tolist() == [0, CELLS // 2, CELLS - 1]


def test_edges_do_not_move_with_the_scores() -> None:
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.2, 0.8, 60)
    ids = [f"s{i}" for i in range(60)]
    first = histogram_from_scores(ids, scores)
    second = histogram_from_scores(
        ids, np.where(score_cells(scores + 1e-4) == score_cells(scores), scores + 1e-4, scores)
    )
    assert first is not None
    assert second is not None
    assert first.low.tolist() == second.low.tolist()
    assert first.counts.tolist() == second.counts.tolist()


def test_more_subjects_give_tighter_bounds() -> None:
    widths = []
    for n in (40, 400, 4000):
        _, labels, scores = draw(0, n, levels=10**6, separation=1.5)
        ids = [f"s{i}" for i in range(n)]
        sides = [
            histogram_from_scores([i for i, y in zip(ids, labels, strict=True) if y == v], scores[labels == v])
            for v in (1, 0)
        ]
        low, high = auroc_bounds([sides[0]], [sides[1]])
        widths.append(float(high[0] - low[0]))
    assert widths[2] < 0.02
    assert widths == sorted(widths, reverse=True)


def test_design_effect_is_the_size_weighted_mean() -> None:
    assert design_effect(np.array([1.0, 1.0])) == 1.0
    assert design_effect(np.array([3.0, 1.0])) == 2.5
    assert design_effect(np.array([])) == 1.0


def test_overlapping_or_empty_cells_are_refused() -> None:
    one = np.array([1])
    with pytest.raises(ShapeError):
        ScoreHistogram(np.array([0, 1]), np.array([2, 3]), np.array([5, 5]), 10, 1.0)
    with pytest.raises(ShapeError):
        ScoreHistogram(one, one, one, 1, 1.0)
    with pytest.raises(ShapeError):
        ScoreHistogram(np.array([0]), np.array([CELLS + 1]), one, 1, 1.0)
    with pytest.raises(ShapeError):
        ScoreHistogram(np.array([0]), one, one, 1, 0.5)
    with pytest.raises(ShapeError):
        auroc_bounds([], [])
