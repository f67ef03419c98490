from datetime import date
from pathlib import Path

import pytest

from app.dashboard.key_facts import keys_of
from medfl.privacy.key_files import KeyFile, revoke


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run.keys").mkdir()
    return tmp_path / "run"


def test_dates_and_epochs_are_told_and_never_a_key(run: Path) -> None:
    path = run.parent / "run.keys" / "federation.key"
    made = KeyFile.create(path, "federation", not_after=date(2999, 1, 1), image_cap=100)
    (facts,) = keys_of(run, None)
    assert (facts.name, facts.kind, facts.epoch, facts.not_after, facts.cap) == (
        "federation",
        "federation",
        1,
        date(2999, 1, 1),
        100,
    )
    assert facts.revoked_on is None
    assert made.key.secret_bytes().hex() not in repr(facts)
    revoke(path)
    assert keys_of(run, None)[0].revoked_on is not None


def test_the_sites_own_keys_come_first(run: Path, tmp_path: Path) -> None:
    KeyFile.create(run.parent / "run.keys" / "federation.key", "federation")
    (tmp_path / "state" / "keys").mkdir(parents=True)
    assert [key.name for key in keys_of(run, tmp_path / "state")] == ["federation"]
    KeyFile.create(tmp_path / "state" / "keys" / "north.key", "site")
    assert [key.name for key in keys_of(run, tmp_path / "state")] == ["north"]


def test_a_key_that_cannot_be_read_is_listed_as_such(run: Path) -> None:
    (run.parent / "run.keys" / "broken.key").write_text("nonsense")
    (facts,) = keys_of(run, None)
    assert (facts.name, facts.key_id, facts.created) == ("broken", "", None)


def test_a_run_without_keys_has_none(tmp_path: Path) -> None:
    assert keys_of(tmp_path / "run", tmp_path) == ()
