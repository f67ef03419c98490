from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medfl.attacks.feature_inversion import evaluate_feature_inversion
from medfl.attacks.kept_numbers import FEW_NUMBERS, closest_is_own, fit_kernel_ridge
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey
from medfl.results.attack import AttackResult, Measure

SUBJECTS = np.repeat(np.arange(100), 3)


def kept(width: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(len(SUBJECTS), width))


def attacked(released: NDArray[np.float64], numbers: NDArray[np.float64]) -> Sequence[AttackResult]:
    return evaluate_feature_inversion(
        released,
        numbers,
        SUBJECTS,
        seed=0,
        known=(64,),
        draws=100,
        estimators=FEW_NUMBERS,
        naming=closest_is_own,
    )


def measure(result: AttackResult, name: str) -> Measure:
    return next(one for one in result.further if one.name == name)


@pytest.mark.parametrize("width", [1, 2])
def test_a_key_of_few_numbers_is_undone_from_known_pairs(width: int) -> None:
    numbers = kept(width)
    transform = KeyedNonlinearTransform(ContextKey(bytes(range(32))), (width,), TransformSettings())
    straight, bent = attacked(transform(torch.from_numpy(numbers)).numpy(), numbers)
    assert (straight.name, bent.name) == ("ridge", "kernel ridge")
    assert bent.value > max(straight.value, 0.95)
    straight_rank, bent_rank = (measure(one, "rank_1").value or 0.0 for one in (straight, bent))
    assert bent_rank > 2 * straight_rank
    assert bent_rank > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_noise_tells_nothing_of_few_numbers(seed: int) -> None:
    numbers = kept(1, seed)
    for one in attacked(kept(1, seed + 100), numbers):
        found = measure(one, "rank_1")
        assert found.ci_low is not None
        assert found.chance is not None
        assert found.ci_low <= found.chance
        assert one.value < 0.1


def test_a_curve_is_followed_where_a_line_cannot() -> None:
    inputs = np.linspace(-3, 3, 60)[:, None]
    new = np.linspace(-2.9, 2.9, 41)[:, None]
    found = fit_kernel_ridge(inputs, np.sin(2 * inputs))(new)
    assert np.abs(found - np.sin(2 * new)).max() < 0.02


def test_a_tie_by_distance_is_shared() -> None:
    clear = np.array([[1.0], [1.0], [2.0], [5.0]])
    assert closest_is_own(clear, clear).tolist() == [0.5, 0.5, 1, 1]
    assert closest_is_own(clear[::-1], clear).sum() == 0
