import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medfl.errors import ConfigError
from medfl.governance.plan import read_plan, write_plan
from tests.governance.plans import PROPOSED, a_plan


def test_a_plan_comes_back_from_its_file_with_the_same_hash(tmp_path: Path) -> None:
    plan = a_plan()
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    assert read_plan(tmp_path / "plan.json").sha256() == plan.sha256()


def test_the_layout_of_the_file_does_not_change_the_hash(tmp_path: Path) -> None:
    plan = a_plan()
    write_plan(plan, tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(dict(reversed(content.items())), separators=(",", ":")))
    assert read_plan(tmp_path / "other.json").sha256() == plan.sha256()


@given(
    st.sampled_from(sorted(set(PROPOSED) - {"expires", "sites", "medfl_version", "name"})),
    st.text(st.characters(min_codepoint=37, max_codepoint=126), min_size=1, max_size=20),  # no '$'
)
def test_every_change_of_a_field_changes_the_hash(field: str, addition: str) -> None:
    assert a_plan(**{field: PROPOSED[field] + addition}).sha256() != a_plan().sha256()


@pytest.mark.parametrize(
    "change",
    [
        {"sites": ()},
        {"sites": ("north", "north")},
        {"sites": ("../north",)},
        {"name": "Bad Name"},
        {"contact": "two\nlines"},
        {"contact": " "},
        {"settings": ""},
        {"settings": "name: ${HOME}"},
        {"settings": "x" * 300_000},
        {"code": "print()"},
        {"schema": "medfl/site-plan/2"},
    ],
)
def test_a_plan_outside_its_schema_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        a_plan(**change)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", "JSON"),
        (b"[]", "schema|follow"),
        (b'{"name": "a", "name": "b"}', "every key once"),
        (b"\xff\xfe", "JSON"),
        (b"{}", "protocol"),
        (b'{"a": ' * 5000, "JSON"),
        (b" " * (1024 * 1024 + 1), "1 MiB"),
    ],
)
def test_a_bad_file_is_a_named_refusal(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(ConfigError, match=named):
        read_plan(tmp_path / "plan.json")


def test_a_missing_file_is_a_named_refusal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable file"):
        read_plan(tmp_path / "plan.json")
