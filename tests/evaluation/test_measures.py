import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfl.errors import ReplyError, ShapeError, TooFewSubjectsError
from medfl.evaluation.disclosure import check_min_subjects, coarsen_covariance, is_spread_out, score_step, voxel_step
from medfl.evaluation.measures import (
    MeasureBlock,
    block_from_subjects,
    flatten,
    merge,
    sum_by_subject,
    unflatten,
)


def table(n: int, k: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, (n, k)).astype(np.float64)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(5, 20), min_size=1, max_size=5), st.integers(0, 2**31))
def test_merged_sites_hold_the_pooled_sums_exactly(sizes: list[int], seed: int) -> None:
    values = [table(n, seed=seed + i) for i, n in enumerate(sizes)]
    merged = merge([block_from_subjects(("a", "b", "c"), part) for part in values])
    assert merged.totals.tolist() == np.concatenate(values).sum(axis=0).tolist()
    assert merged.n_subjects == sum(sizes)
    assert merged.n_sites == len(sizes)


def test_covariances_add_over_strata_within_the_rounding() -> None:
    values = [table(40, seed=1), table(60, seed=2) * 3]
    exact = sum(len(part) * np.cov(part.T) for part in values)
    merged = merge([block_from_subjects(("a", "b", "c"), part) for part in values])
    spread = np.sqrt(np.diag(merged.covariance) / np.diag(exact))
    assert (spread >= 1 - 1e-9).all()
    assert (spread < 1.1).all()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (12, 3), elements=st.floats(-1e3, 1e3)))
def test_coarse_covariance_is_semidefinite_and_never_too_narrow(values: np.ndarray) -> None:
    covariance = np.cov(values.T)
    coarse = coarsen_covariance(covariance)
    assert np.linalg.eigvalsh(coarse).min() >= -1e-9 * max(1.0, np.abs(coarse).max())
    assert (np.diag(coarse) >= np.diag(covariance) * (1 - 1e-6) - 1e-12).all()


def test_coarse_covariance_holds_few_different_numbers() -> None:
    generator = np.random.default_rng(0)
    seen = {coarsen_covariance(np.diag(generator.uniform(1.0, 4.0, 1)))[0, 0] for _ in range(1000)}
    assert len(seen) <= 9


def test_studies_of_a_subject_are_added_first() -> None:
    sums = sum_by_subject(["b", "a", "b"], np.array([[1.0], [10.0], [2.0]]))
    assert sums.tolist() == [[10.0], [3.0]]


def test_too_few_subjects_are_refused() -> None:
    with pytest.raises(TooFewSubjectsError):
        block_from_subjects(("a",), np.ones((4, 1)))
    assert block_from_subjects(("a",), np.ones((0, 1))).n_subjects == 0
    assert block_from_subjects(("a",), np.ones((4, 1)), min_subjects=4).n_subjects == 4
    with pytest.raises(ValueError, match="at least 3"):
        check_min_subjects(2)


def test_many_columns_for_few_subjects_send_no_correlations() -> None:
    covariance = block_from_subjects(("a", "b", "c"), table(5)).covariance
    assert np.count_nonzero(covariance - np.diag(np.diag(covariance))) == 0
    exact = 5 * np.cov(table(5).T)
    assert np.linalg.eigvalsh(covariance - exact).min() >= 0


def test_few_or_dominating_contributors_do_not_pass() -> None:
    assert is_spread_out(np.zeros(8), 5)
    assert is_spread_out(np.array([1.0, 1, 1, 1, 1, 0]), 5)
    assert not is_spread_out(np.array([1.0, 1, 1, 1, 0, 0]), 5)
    assert not is_spread_out(np.array([100.0, 1, 1, 1, 1, 1]), 5)


def test_scores_are_rounded_where_the_rules_fail() -> None:
    many = np.linspace(0.7, 0.9, 12)
    ceilings = np.ones(12)
    fine = score_step(many, ceilings, states=2.0**20, min_subjects=5)
    assert fine == 2.0**-30
    assert score_step(many, ceilings, states=2.0**4, min_subjects=5) > 1e-3
    perfect_but_two = np.array([1.0] * 10 + [0.8, 0.9])
    assert score_step(perfect_but_two, ceilings, states=2.0**20, min_subjects=5) > 1e-3
    assert voxel_step(np.array([5000.0, 1, 2, 1, 3, 2]), scale=20000.0, min_subjects=5) >= 256


def test_wire_round_trip_keeps_every_number() -> None:
    blocks = {
        "x/a": block_from_subjects(("s", "w"), table(9, 2), spread="ratio"),
        "y": block_from_subjects(("t",), table(9, 1)),
    }
    schema = {"x/a": ("s", "w"), "y": ("t",), "z": ("u",)}
    sent = flatten(blocks)
    assert all(array.dtype in (np.int64, np.float64) for array in sent.values())
    back = unflatten(sent, schema)
    assert set(back) == {"x/a", "y"}
    for key, block in blocks.items():
        assert back[key].n_subjects == block.n_subjects
        assert back[key].totals.tolist() == block.totals.tolist()
        assert back[key].covariance.tolist() == block.covariance.tolist()
        assert back[key].resolution.tolist() == block.resolution.tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.totals", np.array([np.nan])),
        ("a.totals", np.array([1.0, 2.0])),
        ("a.totals", np.array([1.0], dtype=np.float32)),
        ("a.totals", np.array(["x"])),
        ("a.totals", np.array([object()])),
        ("a.covariance", np.array([[-1.0]])),
        ("a.covariance", np.array([[np.inf]])),
        ("a.resolution", np.array([-1.0])),
        ("a.n_subjects", np.array([-1])),
        ("a.n_subjects", np.array([1.5])),
        ("b.totals", np.array([1.0])),
    ],
)
def test_impossible_blocks_are_refused(name: str, value: np.ndarray) -> None:
    sent = flatten({"a": block_from_subjects(("t",), table(9, 1))})
    with pytest.raises(ReplyError):
        unflatten(sent | {name: value}, {"a": ("t",)})


def test_a_block_with_a_missing_part_is_refused() -> None:
    sent = flatten({"a": block_from_subjects(("t",), table(9, 1))})
    del sent["a.covariance"]
    with pytest.raises(ReplyError):
        unflatten(sent, {"a": ("t",)})


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError):
        MeasureBlock(("a",), 5, np.zeros(2), np.zeros((1, 1)), np.zeros(1))
    with pytest.raises(ShapeError):
        MeasureBlock(("a", "b"), 5, np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.zeros(2))
    with pytest.raises(ShapeError):
        merge([])
    with pytest.raises(ShapeError):
        merge([block_from_subjects(("a",), table(5, 1)), block_from_subjects(("b",), table(5, 1))])
    with pytest.raises(ShapeError):
        sum_by_subject(["a"], np.ones((2, 1)))
