import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.class_sums import class_sums
from medfl.privacy.directions import fit_directions
from medfl.privacy.saturation import Reach, Saturation, reach_between_classes


def two_classes(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    features = rng.normal(size=(60, 5)) + 2.0 * labels[:, None] * np.eye(5)[0]
    return features, labels, [f"s{i}" for i in range(60)]


@given(st.integers(0, 1000), st.floats(0.1, 2.0))
def test_the_reach_lies_between_the_class_means_of_the_pooled_scores(seed: int, share: float) -> None:
    features, labels, subjects = two_classes(seed)
    sums = class_sums(features, labels, subjects, classes=2, minimum_subjects=3)
    directions = fit_directions(sums, 2)
    scores = directions.scores(features)
    means = np.stack([scores[labels == label].mean(axis=0) for label in (0, 1)])
    reach = reach_between_classes(sums, directions, share)
    np.testing.assert_allclose(reach.center, means.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(reach.half, share * np.abs(means[1] - means[0]) / 2, atol=1e-9)


def test_scores_beyond_the_reach_become_equal_and_the_others_keep_their_order() -> None:
    stage = Saturation(Reach(np.array([1.0]), np.array([2.0])))
    out = stage(torch.tensor([[-9.0], [-1.0], [0.0], [1.0], [3.0], [50.0]]))
    assert out[:, 0].tolist() == [-1.0, -1.0, -0.5, 0.0, 1.0, 1.0]


def test_a_direction_without_a_difference_between_classes_becomes_constant() -> None:
    stage = Saturation(Reach(np.array([0.0, 5.0]), np.array([1.0, 0.0])))
    assert bool((stage(torch.randn(8, 2, 3, 3))[:, 1] == 0).all())


def test_it_holds_nothing_that_is_exchanged() -> None:
    stage = Saturation(Reach(np.zeros(2), np.ones(2)))
    assert stage.state_dict() == {}
    assert stage(torch.zeros(0, 2)).shape == (0, 2)


def test_arrays_come_back_and_others_are_refused() -> None:
    reach = Reach(np.array([0.5, 1.0]), np.array([0.1, 0.0]))
    back = Reach.from_arrays(reach.to_arrays())
    np.testing.assert_array_equal(back.half, reach.half)
    for arrays in ({"center": np.zeros(2)}, {"center": np.zeros(2), "half": np.zeros(2, np.float32)}):
        with pytest.raises(ShapeError):
            Reach.from_arrays(arrays)
    for half in (np.zeros(2), np.array([-1.0, 1.0]), np.array([np.nan, 1.0]), np.ones(3)):
        with pytest.raises(ShapeError):
            Reach(np.zeros(2), half)


def test_a_share_that_is_not_positive_is_refused() -> None:
    features, labels, subjects = two_classes(0)
    sums = class_sums(features, labels, subjects, classes=2, minimum_subjects=3)
    with pytest.raises(ConfigError, match="above 0"):
        reach_between_classes(sums, fit_directions(sums, 1), 0.0)
