import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.attacks.blocked_verification import blocked_auc
from medfl.attacks.statistics import auc
from medfl.errors import ConfigError, ShapeError


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(3, 40), st.integers(1, 50), st.integers(1, 12))
def test_tiles_give_the_area_of_all_pairs_with_ties(seed: int, count: int, block: int, people: int) -> None:
    generator = np.random.default_rng(seed)
    subjects = np.concatenate([[0, 0, people], generator.integers(0, people + 1, count)])
    embeddings = generator.integers(-2, 3, (len(subjects), 3)).astype(float)
    one, other = np.triu_indices(len(subjects), k=1)
    scores, same = (embeddings[one] * embeddings[other]).sum(axis=1), subjects[one] == subjects[other]
    assert blocked_auc(embeddings, subjects, block=block) == pytest.approx(auc(scores[same], scores[~same]), abs=1e-12)


def test_subjects_may_have_any_names_in_any_order() -> None:
    vectors = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert blocked_auc(vectors, ["b", "a", "b", "a"], block=2) == 1.0
    assert blocked_auc(vectors, ["b", "b", "a", "a"], block=3) == 0.25


def test_pairs_of_one_kind_and_odd_shapes_are_refused() -> None:
    for vectors, subjects in [
        (np.ones((3, 2)), [0, 0, 0]),
        (np.ones((3, 2)), [0, 1, 2]),
        (np.ones((3, 2)), [0, 1]),
        (np.full((2, 2), np.nan), [0, 0]),
        (np.ones(3), [0, 0, 1]),
    ]:
        with pytest.raises(ShapeError):
            blocked_auc(vectors, subjects)
    with pytest.raises(ConfigError):
        blocked_auc(np.ones((3, 2)), [0, 0, 1], block=0)
