from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.site.pause import pause, paused, resume
from medfl.errors import AuditLogError, ConfigError
from medfl.governance.audit_log import AuditLog

NOW = datetime(2027, 1, 2, 3, 4, tzinfo=UTC)


def operations(state: Path) -> list[tuple[str, str]]:
    return [(entry.operation, entry.who) for entry in AuditLog(state / "audit.jsonl").entries()][1:]


def test_a_pause_says_who_and_when_and_is_logged_once(state: Path) -> None:
    assert paused(state) is None
    assert pause(state, by="Jo Admin", now=NOW)
    found = paused(state)
    assert found is not None
    assert (found.by, found.since) == ("Jo Admin", NOW)
    assert not pause(state, by="Ann", now=NOW)
    assert paused(state) == found
    assert resume(state, by="Ann")
    assert paused(state) is None
    assert not resume(state, by="Ann")
    assert operations(state) == [("site.pause", "Jo Admin"), ("site.resume", "Ann")]


@pytest.mark.parametrize("name", ["", "a\nb", "/home/jo"])
def test_nobody_pauses_or_resumes_without_a_name(state: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        pause(state, by=name, now=NOW)
    assert paused(state) is None
    pause(state, by="Jo Admin", now=NOW)
    with pytest.raises(ConfigError, match="name"):
        resume(state, by=name)
    assert paused(state) is not None


def test_a_site_whose_log_cannot_be_written_is_paused_all_the_same_and_not_resumed(state: Path) -> None:
    (state / "audit.jsonl").unlink()
    (state / "audit.jsonl").mkdir()
    with pytest.raises(AuditLogError):
        pause(state, by="Jo Admin", now=NOW)
    assert paused(state) is not None
    with pytest.raises(AuditLogError):
        resume(state, by="Jo Admin")
    assert paused(state) is not None


def test_a_pause_that_cannot_be_read_is_a_pause(state: Path) -> None:
    (state / "run" / "paused.json").write_text("{")
    assert paused(state) is not None
    assert resume(state, by="Jo Admin")
    assert paused(state) is None


def test_there_is_nothing_to_pause_without_a_site(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="site init"):
        pause(tmp_path, by="Jo Admin", now=NOW)
