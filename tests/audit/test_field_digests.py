import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medfl.audit.field_digests import changed_fields, field_digests

LEAVES = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
REPORTS = st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=4)


@given(REPORTS)
def test_an_unchanged_report_has_no_changed_field(report: dict[str, Any]) -> None:
    assert changed_fields(copy.deepcopy(report), field_digests(report)) == ()


@given(REPORTS, st.data())
def test_a_changed_leaf_is_named_and_no_other(report: dict[str, Any], data: st.DataObject) -> None:
    signed = field_digests(report)
    edited, pointer = copy.deepcopy(report), ""
    inner: Any = edited
    while True:  # walk down to some leaf
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys))
        pointer += f"/{str(key).replace('~', '~0').replace('/', '~1')}"
        if not (isinstance(inner[key], dict | list) and inner[key]):
            break
        inner = inner[key]
    inner[key] = "another value"
    assert changed_fields(edited, signed) == (f"changed: {pointer}",)


def test_added_and_removed_fields_are_told_apart() -> None:
    signed = field_digests({"verdicts": [{"status": "above margin"}], "note": "x"})
    found = changed_fields({"verdicts": [{"status": "below margin"}], "more": 1}, signed)
    assert found == ("added: /more", "changed: /verdicts/0/status", "removed: /note")
