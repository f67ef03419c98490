from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import medfl
from app.hub import submit as submitting
from app.hub.init import init_hub
from app.hub.settings import HubSettings
from app.hub.superlink import FlowerRun, Node
from app.supervision.running import Running, only_one, write_running
from medfl.config.reading import parse_config
from medfl.governance.enrolment import make_request, write_signed
from medfl.governance.plan import write_plan
from medfl.governance.site_keys import create_site_key
from medfl.results.history import RoundRecord
from medfl.results.metrics import RunMetrics
from medfl.results.store import RunStore
from tests.app.conftest import TINY
from tests.run_plans import run_plan

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


def a_plan(
    folder: Path,
    *,
    sites: tuple[str, ...] = ("north", "south"),
    expires: date = date(2026, 6, 1),
    purpose: str = "test",
    medfl_version: str = medfl.__version__,
) -> Path:
    plan = run_plan(parse_config(TINY), *sites, expires=expires, purpose=purpose)
    plan = plan.model_copy(update={"medfl_version": medfl_version})
    path = folder / f"{plan.sha256()[:8]}.json"
    write_plan(plan, path)
    return path


def round_of(number: int) -> RoundRecord:
    return RoundRecord(number=number, seconds=1.0, skipped="", sites=(), hub_loss=None, metrics={})


def finish(folder: Path) -> None:
    RunStore(folder).write_metrics(RunMetrics(split="test", pooled={}, sites={}, suppressed={}))
