import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.errors import ShapeError
from medfl.evaluation.reliability import (
    BINS,
    ReliabilityBins,
    bins_from_predictions,
    ece_bounds,
    reliability_diagram,
    resample_ece,
)


def exact_ece(confidence: np.ndarray, is_correct: np.ndarray) -> float:
    """Sum over ten bins (low, high] of |confidence - accuracy|, weighted by studies: written out independently."""
    gaps = []
    for index in range(BINS):
        inside = (confidence > index / BINS) & (confidence <= (index + 1) / BINS)
        gaps.append(abs(float((confidence[inside] - is_correct[inside]).sum())))
    return sum(gaps) / len(confidence)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.sampled_from([8, 30, 300]), st.floats(0.3, 6))
def test_true_calibration_error_lies_within_the_bounds(seed: int, n_sites: int, n: int, sharpness: float) -> None:
    generator = np.random.default_rng(seed)
    sites, confidences, hits = [], [], []
    for _ in range(n_sites):
        confidence = generator.beta(sharpness, 1.0, n).clip(1e-6, 1.0)
        is_correct = generator.random(n) < confidence**2
        sites.append(bins_from_predictions(np.arange(n), confidence, is_correct, min_subjects=5))
        confidences.append(confidence)
        hits.append(is_correct)
    low, high = ece_bounds(sites)
    exact = exact_ece(np.concatenate(confidences), np.concatenate(hits))
    assert low - 1e-9 <= exact <= high + 1e-9


def test_well_filled_bins_give_the_exact_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.01, 1, 2000)
    is_correct = generator.random(2000) < confidence
    bins = bins_from_predictions(np.arange(2000), confidence, is_correct, min_subjects=5)
    low, high = ece_bounds([bins])
    assert low == pytest.approx(exact_ece(confidence, is_correct), abs=1e-9)
    assert high == pytest.approx(low, abs=1e-12)
    assert sum(entry.studies for entry in reliability_diagram([bins])) == 2000


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(5, 60))
def test_every_group_describes_no_or_enough_subjects(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    subjects = np.r_[np.arange(5), generator.integers(0, n, n)]
    confidence = generator.uniform(0.01, 1.0, len(subjects))
    bins = bins_from_predictions(subjects, confidence, confidence > 0.5, min_subjects=5)
    for start, stop, studies in zip(bins.start, bins.stop, bins.studies, strict=True):
        inside = (confidence > start / BINS) & (confidence <= stop / BINS)
        assert inside.sum() == studies
        assert len(np.unique(subjects[inside])) not in range(1, 5)


def test_saturated_confidences_are_rounded() -> None:
    confidence = np.r_[np.full(20, 1.0), 0.93]
    bins = bins_from_predictions(np.arange(21), confidence, np.ones(21, bool), min_subjects=5)
    assert bins.resolution[-1] > 1e-3
    low, high = ece_bounds([bins])
    assert low <= 0.07 / 21 <= high


def test_draws_of_a_calibrated_model_stay_near_its_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.01, 1, 5000)
    is_correct = generator.random(5000) < confidence
    bins = bins_from_predictions(np.arange(5000), confidence, is_correct, min_subjects=5)
    draws = resample_ece([bins], [1.0], 200, np.random.default_rng(0))
    assert abs(float(draws.mean()) - ece_bounds([bins])[0]) < 0.02


def test_groups_that_do_not_tile_are_refused() -> None:
    ints, floats = np.array([3]), np.array([1.0])
    with pytest.raises(ShapeError):
        ReliabilityBins(np.array([1]), np.array([BINS]), ints, ints, floats, floats)
    with pytest.raises(ShapeError):
        ReliabilityBins(np.array([0]), np.array([BINS]), ints, ints + 1, floats, floats)
    with pytest.raises(ShapeError):
        ReliabilityBins(np.array([0]), np.array([BINS]), ints, ints, np.array([np.nan]), floats)
