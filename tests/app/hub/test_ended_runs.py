import shutil
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from app.hub.ended_runs import judged_runs
from app.hub.settings import HubSettings
from app.hub.submit import submit
from app.hub.superlink import FlowerRun, SuperLink
from medfl.errors import FederationError
from medfl.results.history import History
from medfl.results.store import RunStore
from tests.app.hub.conftest import NOW, Flower, a_plan, finish, round_of, take_in


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def folder(hub: HubSettings, flower: Flower, tmp_path: Path, at_work: None) -> Path:
    """Of a run that waits for its first round."""
    take_in(hub, "north", "south")
    return submit(hub.state, a_plan(tmp_path), NOW).folder


def judged(hub: HubSettings, flower: Flower) -> tuple[str, str]:
    (one,) = judged_runs(hub, cast("SuperLink", flower))
    return one.state, one.reason


@pytest.mark.usefixtures("folder")
def test_a_run_at_work_stays_one(hub: HubSettings, flower: Flower) -> None:
    assert judged(hub, flower) == ("waiting", "")


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_run_that_flower_ended_without_a_word_has_stopped(
    hub: HubSettings, flower: Flower, folder: Path, rounds: int
) -> None:
    RunStore(folder).write_history(History(rounds=tuple(round_of(number + 1) for number in range(rounds))))
    flower.over.add(1)
    state, reason = judged(hub, flower)
    assert state == "stopped"
    assert "without a word" in reason
    assert "submit the plan again" in reason


@pytest.mark.usefixtures("folder")
def test_a_full_disk_is_named(hub: HubSettings, flower: Flower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40 - 4096, 4096))
    flower.over.add(1)
    state, reason = judged(hub, flower)
    assert state == "stopped"
    assert "disk must have room" in reason


def test_a_run_that_ended_by_itself_keeps_its_own_word(hub: HubSettings, flower: Flower, folder: Path) -> None:
    RunStore(folder).write_stopped("A site did not answer.")
    flower.over.add(1)
    assert judged(hub, flower) == ("stopped", "A site did not answer.")
    finish(folder)
    assert judged(hub, flower) == ("finished", "A site did not answer.")


def test_a_run_that_was_gone_on_with_is_judged_by_its_latest_try(
    hub: HubSettings, flower: Flower, folder: Path, tmp_path: Path
) -> None:
    flower.over.add(1)
    submit(hub.state, a_plan(tmp_path), NOW)
    assert judged(hub, flower)[0] == "waiting"
    flower.over.add(2)
    assert judged(hub, flower)[0] == "stopped"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("error", [FederationError("The SuperLink must answer."), OSError("no process")])
def test_nothing_is_judged_where_flower_does_not_answer(
    hub: HubSettings, flower: Flower, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def silent() -> tuple[FlowerRun, ...]:
        raise error

    flower.over.add(1)
    monkeypatch.setattr(flower, "runs", silent)
    assert judged(hub, flower) == ("waiting", "")
