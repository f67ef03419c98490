from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.case_table import Case
from app.dashboard.comparison import (
    FEWEST,
    baselines_beside,
    calibration,
    key_metric,
    main_metrics,
    rank_correlation,
    standing,
    subgroups,
    subject_mean,
    uncertainty_sources,
)
from medfl.results.metrics import MetricValue

EMPTY = Case("north", "", "", "test", "", "", "", "", "", {})


def case(number: int, score: float, **changes: object) -> Case:
    numbers = {"dice/a": score, "entropy": 1 - score, "spread": 0.1}
    return replace(EMPTY, subject=f"p{number}", study=f"s{number}", numbers=numbers, **changes)  # type: ignore[arg-type]


def answer(number: int, right: bool, confidence: float) -> Case:
    numbers = {"is_correct": float(right), "confidence": confidence, "entropy": 1 - confidence}
    return replace(EMPTY, subject=f"p{number}", study=f"s{number}", numbers=numbers)


def metric(value: float | None, low: float | None = None, high: float | None = None) -> MetricValue:
    return MetricValue(value=value, ci_low=low, ci_high=high, n=20)


def test_the_metric_that_speaks_for_a_run_has_a_value() -> None:
    assert key_metric({"dice_mean": metric(None), "accuracy": metric(0.9)}) == "accuracy"
    assert key_metric({"ece": metric(0.1)}) is None


def test_metrics_are_shown_in_one_order_and_not_twice() -> None:
    names = ("ece", "sensitivity/sick", "sensitivity", "auroc", "unknown", "specificity/sick", "specificity")
    assert main_metrics({name: metric(0.5) for name in names}) == ["auroc", "sensitivity", "specificity", "ece"]
    names = ("nsd@1mm/a", "dice_mean/b", "dice_mean/a", "dice_mean", "iou_mean")
    assert main_metrics({name: metric(0.5) for name in names}) == [
        "dice_mean",
        "dice_mean/a",
        "dice_mean/b",
        "nsd@1mm/a",
    ]


def test_a_difference_counts_only_where_the_whole_interval_lies_on_one_side() -> None:
    assert standing(metric(0.9, 0.85, 0.95), metric(0.8)) == "better"
    assert standing(metric(0.7, 0.65, 0.75), metric(0.8)) == "worse"
    assert standing(metric(0.8, 0.7, 0.9), metric(0.85)) == "no clear difference"
    assert standing(metric(0.9), metric(0.8)) is None
    assert standing(metric(0.9, 0.8, 1.0), metric(None)) is None


def test_groups_of_fewer_than_ten_subjects_have_no_numbers() -> None:
    cases = [case(number, 0.5 + number / 100, sex="F" if number < FEWEST else "M") for number in range(FEWEST + 9)]
    women, men = subgroups(cases, "sex")
    assert (women.name, women.subjects, women.value is not None) == ("F", 10, True)
    assert (men.name, men.subjects, men.value, men.low, men.high) == ("M", 9, None, None, None)


def test_ten_studies_of_few_subjects_are_still_few() -> None:
    cases = [replace(case(number, 0.5, sex="FM"[number % 2]), subject=f"p{number % 4}") for number in range(40)]
    assert {group.value for group in subgroups(cases, "sex")} == {None}


def test_one_group_alone_is_no_subgroup_and_unknown_ages_are_left_out() -> None:
    assert subgroups([case(1, 0.5, sex="F"), case(2, 0.5, sex="F"), case(3, 0.5)], "sex") == []
    ages = [case(place, 0.5, age=age) for place, age in enumerate(["19.9", "20", "79", "", "old", "200", "nan"])]
    assert [group.name for group in subgroups(ages, "age")] == ["00-19", "20-39", "60-79"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_an_interval_of_a_mean_holds_the_mean_and_stays_in_range(scores: list[float]) -> None:
    value, low, high = subject_mean([case(number, score) for number, score in enumerate(scores)])
    assert 0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1


def test_two_studies_of_one_subject_count_once() -> None:
    cases = [case(1, 0.0), replace(case(2, 0.0), subject="p1"), case(3, 1.0)]
    assert subject_mean(cases)[0] == 0.5


def test_an_interval_of_a_share_is_open_even_when_all_are_right() -> None:
    value, low, high = subject_mean([answer(number, True, 0.9) for number in range(20)])
    assert (value, high) == (1.0, 1.0)
    assert 0.8 < low < 1.0


def test_one_subject_alone_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        subject_mean([case(1, 0.5)])


def test_calibration_needs_ten_subjects_and_merges_small_bins() -> None:
    few = [answer(number, True, 0.9) for number in range(9)]
    assert calibration(few) == []
    many = [answer(number, number % 4 > 0, 0.95 if number else 0.55) for number in range(40)]
    bars = calibration(many)
    assert sum(bar.studies for bar in bars) == 40
    assert all(bar.studies >= FEWEST for bar in bars)


def test_sources_of_uncertainty_add_up_to_all_cases() -> None:
    cases = [
        replace(EMPTY, study=str(number), numbers={"entropy": float(number == 0), "spread": float(number == 1)})
        for number in range(30)
    ]
    found = uncertainty_sources(cases)
    assert found is not None
    assert (found.entropy, found.spread, found.both, found.neither) == (1, 1, 0, 28)
    assert uncertainty_sources([EMPTY]) is None


def test_uncertainty_that_warns_has_a_negative_rank_correlation() -> None:
    assert rank_correlation([case(number, number / 20) for number in range(20)]) == pytest.approx(-1)
    assert rank_correlation([case(number, 0.5) for number in range(20)]) is None
    assert rank_correlation([case(number, number / 20) for number in range(5)]) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"models": [{"name": 3}]}', b"[" * 10_000])
def test_a_comparison_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "compare.json").write_bytes(content)
    assert baselines_beside(tmp_path / "run", 0) == {}
    assert baselines_beside(tmp_path / "x" / "run", 0) == {}
