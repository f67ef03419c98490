import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfl.errors import ConfigError
from medfl.governance.case_flags import CaseFlags

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
ABOUT = {"who": "Dr. Ada", "run": "hippocampus ab12", "site": "north", "study": "s-1"}


def flags(folder: Path) -> CaseFlags:
    return CaseFlags(folder, clock=lambda: NOON)


def test_a_flag_says_who_when_and_why_and_stands_until_it_is_taken_back(tmp_path: Path) -> None:
    flags(tmp_path).add(**ABOUT, reason="tip missed")
    (line,) = flags(tmp_path).read().lines
    assert (line.who, line.recorded, line.reason) == ("Dr. Ada", "2026-01-02T12:00:00Z", "tip missed")
    assert flags(tmp_path).read().standing("hippocampus ab12") == {("north", "s-1"): line}
    assert flags(tmp_path).read().standing("another run") == {}
    flags(tmp_path).add(**ABOUT, reason="seen again", mark="withdrawn")
    assert flags(tmp_path).read().standing("hippocampus ab12") == {}
    assert [one.mark for one in flags(tmp_path).read().about("hippocampus ab12", "north", "s-1")] == [
        "withdrawn",
        "flagged",
    ]


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    flags(tmp_path).add(**ABOUT, reason="why")
    (path,) = tmp_path.glob("*.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_that_were_written_are_never_changed(tmp_path: Path) -> None:
    flags(tmp_path).add(**ABOUT, reason="one")
    (path,) = tmp_path.glob("*.jsonl")
    before = path.read_bytes()
    flags(tmp_path).add(**ABOUT, reason="two")
    assert path.read_bytes().startswith(before)


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path) -> None:
    flags(tmp_path).add(**ABOUT, reason="one")
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    flags(tmp_path).add(**ABOUT, reason="two")
    journal = flags(tmp_path).read()
    assert [line.reason for line in journal.lines] == ["two"]
    assert journal.unreadable == 1


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: flags(tmp_path).add(**ABOUT, reason=f"reason {number}"), range(40)))
    journal = flags(tmp_path).read()
    assert {line.reason for line in journal.lines} == {f"reason {number}" for number in range(40)}
    assert journal.unreadable == 0


@pytest.mark.parametrize("reason", ["", "   ", "two\nlines", "x" * 501, "\x00", "tab\there"])
def test_a_reason_is_one_printable_line_of_at_most_500_characters(tmp_path: Path, reason: str) -> None:
    with pytest.raises(ConfigError):
        flags(tmp_path).add(**ABOUT, reason=reason)
    assert flags(tmp_path).read().lines == ()


@given(st.text(min_size=1, max_size=100).filter(lambda text: text.isprintable() and bool(text.strip())))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_printable_reason_is_read_back_as_it_was(tmp_path: Path, reason: str) -> None:
    flags(tmp_path).add(**ABOUT, reason=reason)
    assert flags(tmp_path).read().lines[-1].reason == reason.strip()


def test_without_a_file_there_is_no_flag_and_without_a_folder_none_can_be_written(tmp_path: Path) -> None:
    assert flags(tmp_path / "nowhere").read().lines == ()
    with pytest.raises(ConfigError, match="state folder"):
        flags(tmp_path / "nowhere").add(**ABOUT, reason="why")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "case_flags.jsonl").mkdir()
    with pytest.raises(ConfigError, match="readable"):
        flags(tmp_path).read()


def test_a_file_larger_than_any_list_of_flags_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "case_flags.jsonl").open("wb") as file:
        os.truncate(file.fileno(), 64_000_001)
    with pytest.raises(ConfigError, match="64 MB"):
        flags(tmp_path).read()
