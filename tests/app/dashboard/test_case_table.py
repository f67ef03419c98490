import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.case_table import case_table, quantile_of


def test_columns_decide_what_kind_of_task_it_is() -> None:
    segmented = case_table([{"site": "a", "study": "1", "dice/x": "0.5", "dice/y": "0.7"}])
    assert (segmented.kind, segmented.classes) == ("segmentation", ("x", "y"))
    assert segmented.cases[0].dice == pytest.approx(0.6)
    classified = case_table([{"site": "a", "study": "1", "probability/x": "0.5", "is_correct": "0"}])
    assert (classified.kind, classified.classes, classified.cases[0].score) == ("classification", ("x",), 0.0)


def test_a_class_without_a_dice_does_not_count_into_the_mean() -> None:
    assert case_table([{"site": "a", "study": "1", "dice/x": "", "dice/y": "0.7"}]).cases[0].dice == 0.7
    assert case_table([{"site": "a", "study": "1", "dice/x": "", "dice/y": ""}]).cases[0].score is None


def test_lines_without_a_site_or_study_are_left_out_and_counted() -> None:
    table = case_table([{"site": "a", "study": ""}, {"site": None, "study": "1"}, {"site": "a", "study": "1"}])
    assert (len(table.cases), table.left_out) == (1, 2)


def test_another_table_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        case_table([{"a": "1"}])
    assert case_table([]).cases == ()


@given(st.text(max_size=20))
def test_a_number_is_finite_or_not_there(text: str) -> None:
    found = case_table([{"site": "a", "study": "1", "entropy": text}]).cases[0].numbers.get("entropy")
    assert found is None or math.isfinite(found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(-1e6, 1e6))
def test_a_quantile_is_a_share_and_grows_with_the_value(among: list[float], value: float) -> None:
    assert 0 <= quantile_of(value, among) <= quantile_of(value + 1, among) <= 1
    assert quantile_of(value, []) == 0.5
