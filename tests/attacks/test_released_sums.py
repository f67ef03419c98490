import numpy as np
import pytest

from medfl.attacks.released_sums import evaluate_released_sums
from medfl.errors import ShapeError, TooFewSubjectsError
from medfl.privacy.class_sums import class_sums, noised
from medfl.privacy.gaussian import SeededNoise
from medfl.results.attack import AttackResult, Control

Found = tuple[dict[str, AttackResult], tuple[Control, ...]]


def attacked(n: int, channels: int, seed: int, epsilon: float | None = None) -> Found:
    generator = np.random.default_rng(seed)
    features, labels = generator.standard_normal((2 * n, channels)), np.arange(2 * n) % 2
    subjects = [f"s{number}" for number in range(2 * n)]
    inside = (features[:n], labels[:n], subjects[:n])
    if epsilon is None:
        released = class_sums(*inside, classes=2, minimum_subjects=3)
    else:
        released, _ = noised(
            *inside,
            classes=2,
            minimum_subjects=3,
            clip=float(np.sqrt(channels)),
            epsilon=epsilon,
            delta=1e-4,
            source=SeededNoise(seed),
        )
    results, controls = evaluate_released_sums(
        released.to_arrays(), features, np.arange(2 * n) < n, subjects, seed=seed, draws=200
    )
    return {one.name: one for one in results}, controls


def test_exact_sums_of_fewer_samples_than_channels_tell_who_is_in_them() -> None:
    results, (positive, _) = attacked(30, 80, 0)
    assert results["span"].value > 0.99
    assert results["leverage"].value > 0.99
    assert (results["span"].positives, results["span"].negatives, results["span"].knowledge) == (30, 30, "sums")
    assert positive.passed


def test_noised_sums_tell_nothing_in_most_runs() -> None:
    found = [attacked(30, 20, seed, epsilon=0.5)[0]["leverage"] for seed in range(10)]
    assert sum(one.ci_low <= 0.5 <= one.ci_high for one in found) >= 7
    assert abs(float(np.mean([one.value for one in found])) - 0.5) < 0.1


def test_exact_sums_of_many_samples_come_close_to_chance() -> None:
    values = []
    for seed in range(5):
        results, (positive, _) = attacked(600, 8, seed)
        assert set(results) == {"leverage"}
        assert positive.passed
        values.append(results["leverage"].value)
    assert abs(float(np.mean(values)) - 0.5) < 0.05


def test_strangers_cannot_be_told_from_strangers() -> None:
    nulls = [attacked(30, 80, seed)[1][1] for seed in range(10)]
    assert sum(one.passed is True for one in nulls) >= 7


def test_several_samples_of_a_subject_count_as_one_subject() -> None:
    generator = np.random.default_rng(0)
    features, subjects = generator.standard_normal((40, 60)), np.repeat([f"s{number}" for number in range(20)], 2)
    released = class_sums(features[:20], np.zeros(20, np.int64), list(subjects[:20]), classes=1, minimum_subjects=3)
    results, (positive, _) = evaluate_released_sums(
        released.to_arrays(), features, np.arange(40) < 20, subjects, seed=0, draws=50
    )
    assert [(one.positives, one.negatives) for one in results] == [(10, 10), (10, 10)]
    assert positive.passed


def test_many_samples_of_a_subject_leave_a_positive_control() -> None:
    generator = np.random.default_rng(0)
    features, subjects = generator.standard_normal((1200, 40)), np.repeat(np.arange(24), 50)
    sums = {"counts": np.array([600.0]), "cross": features[:600].T @ features[:600]}
    results, (positive, null) = evaluate_released_sums(sums, features, subjects < 12, subjects, seed=0, draws=100)
    assert positive.passed
    assert null.passed
    assert results[0].value > 0.9


def test_what_does_not_fit_is_refused() -> None:
    arrays = {"counts": np.ones(1), "cross": np.eye(3)}
    names = [f"s{number}" for number in range(10)]
    half = np.arange(10) < 5
    with pytest.raises(ShapeError, match="candidates"):
        evaluate_released_sums(arrays, np.ones((10, 4)), half, names, seed=0)
    with pytest.raises(ShapeError, match="both"):
        evaluate_released_sums(arrays, np.ones((10, 3)), half, ["same"] * 10, seed=0)
    with pytest.raises(TooFewSubjectsError):
        evaluate_released_sums(arrays, np.ones((10, 3)), np.arange(10) < 3, names, seed=0)
