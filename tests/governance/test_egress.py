from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import EgressError
from medfl.governance.egress import ArrayFacts, Egress, check
from tests.governance.plans import BIAS, WEIGHT, a_reply, an_egress

STUDY = ArrayFacts("study-0123456789abcdef", "uint8", (100,), 228)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"records": {"model": (BIAS, WEIGHT)}},
        {"records": {"sealed": (STUDY,)}},
        {"records": {"sealed": (STUDY, replace(STUDY, name="study-fedcba9876543210", shape=(3,)))}},
        {"records": {}, "report": {"subjects": 0, "suppressed": "fewer than 5 subjects"}},
        {"records": {"model": ()}, "report": {"subjects": 0}},
        {"report": {"subjects": 6, "loss": float("nan")}},
    ],
)
def test_what_the_plan_lets_out_passes(change: dict[str, Any]) -> None:
    check(a_reply(**change), an_egress())


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("unknown_kind", {"kind": "evaluate"}),
        ("unknown_record", {"records": {"model": (WEIGHT, BIAS), "extra": ()}}),
        ("unknown_record", {"others": ("metrics",)}),
        ("unknown_array", {"records": {"model": (WEIGHT, BIAS, replace(BIAS, name="subject-7"))}}),
        ("unknown_array", {"records": {"model": (WEIGHT, BIAS, BIAS)}}),
        ("unknown_array", {"records": {"sealed": (replace(STUDY, name="study-DOE^JANE"),)}}),
        ("unknown_array", {"records": {"sealed": tuple(replace(STUDY, name=f"study-{i:016x}") for i in range(3))}}),
        ("missing_array", {"records": {"model": (WEIGHT,)}}),
        ("shape", {"records": {"model": (replace(WEIGHT, shape=(3, 2)), BIAS)}}),
        ("shape", {"records": {"model": (replace(WEIGHT, shape=(2, 3, 1)), BIAS)}}),
        ("shape", {"records": {"sealed": (replace(STUDY, shape=(101,)),)}}),
        ("dtype", {"records": {"model": (replace(WEIGHT, dtype="float64"), BIAS)}}),
        ("bytes", {"records": {"model": (replace(WEIGHT, nbytes=1999), BIAS)}}),
        ("bytes", {"records": {"model": (replace(WEIGHT, nbytes=281), BIAS)}}),
        ("report", {"report": {"subjects": 6, "patient": "x"}}),
        ("report", {"report": {"loss": 0.5}}),
        ("report", {"report": {"subjects": True}}),
        ("report", {"report": {"subjects": -1}}),
        ("report", {"report": {"subjects": 6.5}}),
        ("report", {"report": {"subjects": 6, "loss": "0.5"}}),
        ("report", {"report": {"subjects": 6, "loss": 1e300}}),
        ("report", {"report": {"subjects": 6, "suppressed": "fewer than 5 subjects, DOE^JANE"}}),
        ("report", {"report": {"subjects": 6, "suppressed": [1]}}),
        ("too_few_subjects", {"report": {"subjects": 4}}),
        ("too_few_subjects", {"report": {"subjects": 0}}),
    ],
)
def test_anything_else_is_refused_with_its_reason(reason: str, change: dict[str, Any]) -> None:
    with pytest.raises(EgressError) as caught:
        check(a_reply(**change), an_egress())
    assert caught.value.reason == reason
    assert "DOE" not in str(caught.value)
    assert "subject-7" not in str(caught.value)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 300))
def test_an_array_passes_only_with_its_own_shape_and_size(rows: int, columns: int, header: int) -> None:
    array = ArrayFacts("weight", "float32", (rows, columns), rows * columns * 4 + header)
    reply = a_reply(records={"model": (array, BIAS)})
    if (rows, columns) == (2, 3) and header <= 256:
        check(reply, an_egress())
    else:
        with pytest.raises(EgressError):
            check(reply, an_egress())


def test_totals_follow_from_the_table() -> None:
    egress = an_egress()
    (rule,) = egress.kinds
    assert rule.values() == 6 + 3 + 2 * 100
    assert egress.total_bytes() == 2 * 2000
    assert rule.records[0].highest_bytes() == (24 + 256) + (12 + 256)


def test_the_table_comes_back_from_json() -> None:
    egress = an_egress()
    assert Egress.model_validate_json(egress.model_dump_json()) == egress
