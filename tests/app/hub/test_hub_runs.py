import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import pytest

import medfl
from app.hub import submit as submitting
from app.hub.following import follow
from app.hub.init import init_hub
from app.hub.register import register_sites, registered
from app.hub.settings import HubSettings
from app.hub.submit import resume_all, run_states, submit
from app.hub.superlink import FlowerRun, Node, SuperLink
from app.supervision.running import Running, only_one, write_running
from medfl.config.reading import dump_config, parse_config
from medfl.errors import ConfigError, FederationError
from medfl.governance.enrolment import make_request, write_signed
from medfl.governance.plan import Plan, write_plan
from medfl.governance.site_keys import create_site_key
from medfl.results.history import History, RoundRecord
from medfl.results.metrics import RunMetrics
from medfl.results.store import RunStore
from tests.app.conftest import TINY

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


@dataclass
class Flower:
    """Stands for a SuperLink."""

    sites: dict[int, str] = field(default_factory=dict)
    started: list[dict[str, str]] = field(default_factory=list)
    over: set[int] = field(default_factory=set)

    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(number, "online") for number in self.sites)

    def register(self, site: str, public_key: str) -> int:
        number = 100 + len(self.sites) + 1
        self.sites[number] = public_key
        return number

    def unregister(self, number: int) -> None:
        del self.sites[number]

    def runs(self) -> tuple[FlowerRun, ...]:
        every = range(1, len(self.started) + 1)
        return tuple(FlowerRun(one, "finished:failed" if one in self.over else "running") for one in every)

    def stop(self, number: int) -> None:
        self.over.add(number)

    def submit(self, bundle: Path, run_config: Path) -> int:
        files = {path.name: path.read_text() for path in bundle.iterdir()}
        self.started.append(files | {"run": run_config.read_text()})
        return len(self.started)


@pytest.fixture
def hub(tmp_path: Path) -> HubSettings:
    return init_hub(tmp_path / "hub", name="trial", host="localhost", port=8443, now=NOW)[0]


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> Flower:
    made = Flower()
    monkeypatch.setattr(submitting, "SuperLink", lambda settings: made)
    return made


@pytest.fixture
def at_work(hub: HubSettings) -> Iterator[None]:
    with only_one(hub.state):
        write_running(hub.state, Running(number=1, version=medfl.__version__, since=NOW, phase="running"))
        yield


def take_in(hub: HubSettings, *sites: str) -> None:
    for site in sites:
        key = hub.state / f"key-{site}"
        create_site_key(key, "x")
        write_signed(make_request(key, site=site, medfl_version="1", now=NOW), hub.sites / f"{site}.json")


def a_plan(folder: Path, **changes: object) -> Path:
    config = parse_config(TINY)
    values: dict[str, object] = {
        "name": config.name,
        "medfl_version": medfl.__version__,
        "protocol": "vote",
        "legal_basis": "consent",
        "purpose": "test",
        "contact": "nobody",
        "expires": date(2026, 6, 1),
        "sites": ("north", "south"),
        "settings": dump_config(config),
    }
    plan = Plan.model_validate(values | changes)
    path = folder / f"{plan.sha256()[:8]}.json"
    write_plan(plan, path)
    return path


def round_of(number: int) -> RoundRecord:
    return RoundRecord(number=number, seconds=1.0, skipped="", sites=(), hub_loss=None, metrics={})


def finish(folder: Path) -> None:
    RunStore(folder).write_metrics(RunMetrics(split="test", pooled={}, sites={}, suppressed={}))


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
