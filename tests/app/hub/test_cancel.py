import threading
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from app.hub import cancel as cancelling
from app.hub.cancel import cancel
from app.hub.settings import HubSettings
from app.hub.submit import resume_all, run_states, submit
from app.hub.superlink import SuperLink
from app.supervision.running import read_running, write_running
from medfl.errors import ConfigError, FederationError
from medfl.results.history import History
from medfl.results.store import RunStore
from tests.app.hub.conftest import NOW, Flower, a_plan, finish, round_of, take_in


@pytest.fixture
def plan(hub: HubSettings, flower: Flower, tmp_path: Path, at_work: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Submitted."""
    monkeypatch.setattr(cancelling, "SuperLink", lambda settings: flower)
    take_in(hub, "north", "south")
    made = a_plan(tmp_path, expires=date(2099, 1, 1))
    submit(hub.state, made, NOW)
    return made


def name_of(hub: HubSettings) -> str:
    return run_states(hub)[0].folder.name


@pytest.mark.usefixtures("plan")
def test_a_cancelled_run_ends_at_flower_and_does_not_go_on_by_itself(hub: HubSettings, flower: Flower) -> None:
    found = cancel(hub.state, name_of(hub), NOW)
    assert (found.state, found.round) == ("stopped", 0)
    assert "cancelled it on 2026-05-04" in found.reason
    assert flower.over == {1}
    assert list(resume_all(hub, cast("SuperLink", flower))) == []
    assert len(flower.started) == 1


def test_a_cancelled_run_goes_on_when_its_plan_is_submitted_again(hub: HubSettings, flower: Flower, plan: Path) -> None:
    folder = run_states(hub)[0].folder
    RunStore(folder).write_history(History(rounds=(round_of(1),)))
    assert cancel(hub.state, folder.name, NOW).round == 1
    RunStore(folder).write_stopped("Something unexpected happened (RunNotRunning).")
    assert "cancelled" in run_states(hub)[0].reason
    again = submit(hub.state, plan, NOW)
    assert (again.state, again.round, again.submission.flower_runs) == ("running", 1, (1, 2))


@pytest.mark.usefixtures("plan")
def test_other_runs_go_on(hub: HubSettings, flower: Flower, tmp_path: Path) -> None:
    first = name_of(hub)
    other = submit(hub.state, a_plan(tmp_path, purpose="other"), NOW)
    cancel(hub.state, first, NOW)
    assert flower.over == {1}
    assert {one.folder.name: one.state for one in run_states(hub)} == {first: "stopped", other.folder.name: "waiting"}


@pytest.mark.usefixtures("plan")
def test_what_cannot_be_cancelled_is_said(hub: HubSettings, flower: Flower) -> None:
    with pytest.raises(ConfigError, match="none of this name"):
        cancel(hub.state, "tiny", NOW)
    finish(run_states(hub)[0].folder)
    with pytest.raises(ConfigError, match="must not have finished"):
        cancel(hub.state, name_of(hub), NOW)
    assert flower.over == set()


@pytest.mark.usefixtures("plan")
def test_a_hub_that_is_starting_cancels_nothing_yet(hub: HubSettings, flower: Flower) -> None:
    running = read_running(hub.state)
    assert running is not None
    write_running(hub.state, running.model_copy(update={"phase": "waiting"}))
    with pytest.raises(FederationError, match="just starting"):
        cancel(hub.state, name_of(hub), NOW)
    assert flower.over == set()
    assert run_states(hub)[0].state == "waiting"


def test_a_run_cancelled_while_the_hub_did_not_run_is_ended_when_it_starts(
    hub: HubSettings, flower: Flower, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "read_running", lambda state: None)
    cancel(hub.state, name_of(hub), NOW)
    assert flower.over == set()
    assert list(resume_all(hub, cast("SuperLink", flower))) == []
    assert flower.over == {1}
    assert len(flower.started) == 1


@pytest.mark.usefixtures("plan")
def test_a_run_that_flower_does_not_end_is_not_called_cancelled(
    hub: HubSettings, flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> None:
        raise FederationError("The SuperLink must answer.")

    monkeypatch.setattr(flower, "stop", fails)
    with pytest.raises(FederationError, match="must answer"):
        cancel(hub.state, name_of(hub), NOW)
    assert run_states(hub)[0].state == "waiting"


@pytest.mark.usefixtures("plan")
def test_a_run_that_ends_by_itself_at_the_same_moment_is_cancelled(
    hub: HubSettings, flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(number: int) -> None:
        flower.over.add(number)
        raise FederationError("Run is already finished.")

    monkeypatch.setattr(flower, "stop", too_late)
    assert cancel(hub.state, name_of(hub), NOW).state == "stopped"


def test_a_run_that_is_just_submitted_again_is_cancelled_after_that(
    hub: HubSettings, flower: Flower, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flower.over.add(1)
    really, name = flower.submit, name_of(hub)
    threads: list[threading.Thread] = []

    def cancelled_meanwhile(bundle: Path, run_config: Path) -> int:
        threads.append(threading.Thread(target=cancel, args=(hub.state, name, NOW)))
        threads[0].start()
        threads[0].join(timeout=0.2)
        return really(bundle, run_config)

    monkeypatch.setattr(flower, "submit", cancelled_meanwhile)
    submit(hub.state, plan, NOW)
    threads[0].join()
    assert run_states(hub)[0].state == "stopped"
    assert flower.over == {1, 2}
