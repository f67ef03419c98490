import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medfl.errors import ShapeError
from medfl.evaluation.case_auroc import case_auroc


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_it_equals_scikit_learn_with_ties(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 8, n).astype(np.float64), rng.random(n) < 0.5
    positive[:2] = [True, False]
    found = case_auroc(scores, positive, [str(i) for i in range(n)], draws=5, rng=rng)
    assert found.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_many_cases_of_few_subjects_make_the_interval_wide() -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat([f"s{i}" for i in range(20)], 30)
    level = np.repeat(rng.normal(size=20), 30)
    positive = np.repeat(np.arange(20) % 2 == 0, 30)
    scores = level + positive + 0.01 * rng.normal(size=600)
    clustered = case_auroc(scores, positive, subjects.tolist(), draws=300, rng=rng)
    alone = case_auroc(scores, positive, [str(i) for i in range(600)], draws=300, rng=rng)
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)


def test_one_class_alone_has_no_area() -> None:
    with pytest.raises(ShapeError, match="both classes"):
        case_auroc(np.ones(3), np.ones(3, dtype=bool), ["a", "b", "c"], draws=1, rng=np.random.default_rng(0))
