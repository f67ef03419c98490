import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from app.hub.settings import load_hub
from app.hub.submit import Submission, write_submission
from tests.app.conftest import Outcome
from tests.app.hub.conftest import a_plan

Medfl = Callable[..., Outcome]
NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


@pytest.fixture
def hub(medfl: Medfl, tmp_path: Path) -> str:
    folder = str(tmp_path / "hub")
    assert medfl("hub", "init", folder, "--name", "trial", "--host", "localhost").code == 0
    return folder


@pytest.fixture
def submitted(hub: str) -> str:
    """Name of a run that was asked for."""
    made = Submission(
        plan_sha256="ab" * 32, plan="tiny", sites=("north",), rounds=3, flower_runs=(1,), since=NOW, cancelled=None
    )
    write_submission(load_hub(Path(hub)), made)
    return f"tiny-{'ab' * 6}"


def test_a_new_hub_says_what_to_do_next(medfl: Medfl, hub: str) -> None:
    said = medfl("hub", "status", hub)
    assert said.code == 0
    assert "Does not run. Start it with 'medfl hub start'." in said.out
    assert "No site is enrolled yet." in said.out
    facts = json.loads(medfl("hub", "status", hub, "--json").out)
    assert (facts["running"], facts["sites"], facts["runs"]) == (False, [], [])
    assert len(facts["fingerprint"].replace(" ", "").replace(":", "")) == 64


def test_a_hub_is_not_made_over_another_one(medfl: Medfl, hub: str) -> None:
    said = medfl("hub", "init", hub, "--name", "trial", "--host", "localhost")
    assert said.code == 3
    assert "Traceback" not in said.err


def test_a_hub_that_does_not_run_stops_quietly_and_takes_no_plan(medfl: Medfl, hub: str, tmp_path: Path) -> None:
    assert medfl("hub", "stop", hub).out == "The hub did not run.\n"
    assert json.loads(medfl("hub", "stop", hub, "--json").out) == {"running": False, "was_running": False}
    said = medfl("hub", "submit", hub, str(a_plan(tmp_path, expires=date(2099, 1, 1))))
    assert said.code != 0
    assert "must be enrolled" in said.err


def test_a_run_is_cancelled_by_the_name_that_status_shows(medfl: Medfl, hub: str, submitted: str) -> None:
    assert f"  {submitted}: waiting, round 0 of 3" in medfl("hub", "status", hub).out
    said = medfl("hub", "cancel", hub, submitted)
    assert (said.code, said.out) == (
        0,
        f"Cancelled {submitted} after round 0 of 3; what sites sent stays here.\n",
    )
    assert (
        f"  {submitted}: stopped, round 0 of 3: The hub's operator cancelled it on" in medfl("hub", "status", hub).out
    )


def test_cancelling_prints_one_object_where_asked(medfl: Medfl, hub: str, submitted: str) -> None:
    facts = json.loads(medfl("hub", "cancel", hub, submitted, "--json").out)
    assert (facts["state"], facts["sha256"]) == ("stopped", "ab" * 32)


def test_a_run_that_is_not_there_is_a_sentence(medfl: Medfl, hub: str, submitted: str) -> None:
    said = medfl("hub", "cancel", hub, "tiny")
    assert said.code == 3
    assert "must be named as 'medfl hub status' shows it" in said.err
