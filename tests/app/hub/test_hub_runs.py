import errno
import json
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from app.hub import following
from app.hub.following import follow
from app.hub.register import register_sites, registered
from app.hub.settings import HubSettings
from app.hub.submit import resume_all, run_states, submit
from app.hub.superlink import SuperLink
from medfl.errors import ConfigError, FederationError
from medfl.results.history import History
from medfl.results.store import RunStore
from tests.app.hub.conftest import NOW, Flower, a_plan, finish, round_of, take_in


def test_flower_s_sites_follow_the_hub_s_folder(hub: HubSettings) -> None:
    flower = Flower()
    link = cast("SuperLink", flower)
    take_in(hub, "north", "south")
    assert register_sites(hub, link) == (("north", "south"), ())
    assert register_sites(hub, link) == ((), ())
    (hub.sites / "north.json").unlink()
    assert register_sites(hub, link) == ((), ("north",))
    assert registered(hub).keys() == {"south"}
    assert len(flower.sites) == 1


def test_a_superlink_that_forgot_everything_is_told_again(hub: HubSettings) -> None:
    take_in(hub, "north")
    register_sites(hub, cast("SuperLink", Flower()))
    assert register_sites(hub, cast("SuperLink", Flower())) == (("north",), ())


@pytest.mark.usefixtures("at_work")
def test_a_run_is_started_with_the_plan_alone(hub: HubSettings, flower: Flower, tmp_path: Path) -> None:
    take_in(hub, "north", "south")
    made = submit(hub.state, a_plan(tmp_path), NOW)
    assert made.state == "waiting"
    assert made.folder == hub.runs / f"tiny-{made.submission.plan_sha256[:12]}"
    assert set(flower.started[0]) == {"pyproject.toml", "plan.json", "run"}
    assert "sites = 2" in flower.started[0]["run"]
    assert json.loads(flower.started[0]["plan.json"])["sites"] == ["north", "south"]


@pytest.mark.usefixtures("at_work", "flower")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"medfl_version": "9.9"}, "version"),
        ({"expires": date(2026, 5, 3)}, "ended"),
        ({"sites": ("north", "east")}, "missing: east"),
    ],
)
def test_a_plan_that_cannot_run_is_refused(
    hub: HubSettings, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    take_in(hub, "north", "south")
    with pytest.raises(ConfigError, match=said):
        submit(hub.state, a_plan(tmp_path, **changes), NOW)
    assert run_states(hub) == ()


def test_a_hub_that_does_not_run_takes_no_plan(hub: HubSettings, flower: Flower, tmp_path: Path) -> None:
    take_in(hub, "north", "south")
    with pytest.raises(FederationError, match="hub start"):
        submit(hub.state, a_plan(tmp_path), NOW)
    assert flower.started == []


@pytest.mark.usefixtures("at_work")
def test_a_plan_runs_once_but_goes_on_after_it_stopped(hub: HubSettings, flower: Flower, tmp_path: Path) -> None:
    take_in(hub, "north", "south")
    plan = a_plan(tmp_path)
    made = submit(hub.state, plan, NOW)
    with pytest.raises(ConfigError, match="at work"):
        submit(hub.state, plan, NOW)
    RunStore(made.folder).write_stopped("A site did not answer.")
    flower.over.add(1)
    assert run_states(hub)[0].state == "stopped"
    assert submit(hub.state, plan, NOW).submission.flower_runs == (1, 2)
    assert run_states(hub)[0].reason == ""
    finish(made.folder)
    flower.over.add(2)
    with pytest.raises(ConfigError, match="has finished"):
        submit(hub.state, plan, NOW)


@pytest.mark.usefixtures("at_work")
def test_only_runs_that_were_interrupted_go_on_and_their_old_messages_end(
    hub: HubSettings, flower: Flower, tmp_path: Path
) -> None:
    take_in(hub, "north", "south")
    first, second, third = (a_plan(tmp_path, purpose=purpose, expires=date(2099, 1, 1)) for purpose in "abc")
    folders = [submit(hub.state, plan, NOW).folder for plan in (first, second, third)]
    finish(folders[0])
    RunStore(folders[1]).write_stopped("A site did not answer.")
    RunStore(folders[2]).write_history(History(rounds=(round_of(1), round_of(2))))
    assert list(resume_all(hub, cast("SuperLink", flower))) == [f"The run {folders[2].name} goes on after round 2."]
    assert flower.over == {3}
    assert len(flower.started) == 4


@pytest.mark.usefixtures("at_work", "flower")
def test_a_run_is_followed_round_by_round_to_its_end(hub: HubSettings, tmp_path: Path) -> None:
    take_in(hub, "north", "south")
    made = submit(hub.state, a_plan(tmp_path), NOW)
    store, steps = RunStore(made.folder), [0]

    def sleep(seconds: float) -> None:
        steps[0] += 1
        store.write_history(History(rounds=tuple(round_of(number + 1) for number in range(steps[0]))))
        if steps[0] == 3:
            finish(made.folder)

    assert [one.number for one in follow(hub.state, made.submission.plan_sha256, sleep)] == [1, 2, 3]


@pytest.mark.usefixtures("at_work", "flower")
def test_following_a_run_that_stops_says_why(hub: HubSettings, tmp_path: Path) -> None:
    take_in(hub, "north", "south")
    made = submit(hub.state, a_plan(tmp_path), NOW)
    RunStore(made.folder).write_stopped("A site did not answer.")
    with pytest.raises(FederationError, match="A site did not answer"):
        list(follow(hub.state, made.submission.plan_sha256))


@pytest.mark.usefixtures("at_work")
def test_following_a_run_whose_process_was_killed_says_so(
    hub: HubSettings, flower: Flower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(hub, "north", "south")
    made = submit(hub.state, a_plan(tmp_path), NOW)
    monkeypatch.setattr(following, "SuperLink", lambda settings: flower)

    def sleep(seconds: float) -> None:
        flower.over.add(1)

    with pytest.raises(FederationError, match="ended without a word"):
        list(follow(hub.state, made.submission.plan_sha256, sleep))


@pytest.mark.usefixtures("at_work")
def test_a_full_disk_refuses_a_plan_with_a_sentence(
    hub: HubSettings, flower: Flower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(hub, "north", "south")

    def full(bundle: Path, run_config: Path) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(flower, "submit", full)
    with pytest.raises(ConfigError, match=r"writable; it is not \(No space left"):
        submit(hub.state, a_plan(tmp_path), NOW)


@pytest.mark.usefixtures("at_work")
def test_one_run_that_cannot_go_on_leaves_the_others(
    hub: HubSettings, flower: Flower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(hub, "north", "south")
    for purpose in "ab":
        submit(hub.state, a_plan(tmp_path, purpose=purpose, expires=date(2099, 1, 1)), NOW)
    really, refused = flower.submit, [OSError(errno.ENOSPC, "No space left on device")]

    def full_once(bundle: Path, run_config: Path) -> int:
        if refused:
            raise refused.pop()
        return really(bundle, run_config)

    monkeypatch.setattr(flower, "submit", full_once)
    first, second = resume_all(hub, cast("SuperLink", flower))
    assert "cannot go on: the hub's folder must be writable" in first
    assert second.endswith("goes on after round 0.")
