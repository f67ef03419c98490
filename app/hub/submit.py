"""Runs at a hub: asked for once, and gone on with after the hub was stopped or killed, until they end by themselves."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

import medfl
from app.hub.enrolling import enrolled
from app.hub.settings import HubSettings, load_hub
from app.hub.superlink import SuperLink
from app.supervision.running import read_running
from medfl.errors import ConfigError, FederationError, MedFLError, RunFolderError
from medfl.governance.plan import Plan, read_plan
from medfl.results.atomic import locked, write_bytes, write_text
from medfl.results.store import RunStore
from pipelines.flower_bundle import bundle_files
from pipelines.run_config import HubSettings as RunSettings
from pipelines.run_config import run_config_toml
from pipelines.site_plan import settings_of

_SHORT = 12
_ENDING = ".run.json"

State = Literal["waiting", "running", "finished", "stopped"]


class Submission(BaseModel):
    """A run that was asked for.

    Attributes
    ----------
    plan_sha256 : str
    plan : str
        Name.
    sites : tuple of str
    rounds : int
    flower_runs : tuple of int
        Flower's ids: one, and one more for every time it was gone on with.
    since : datetime
    cancelled : datetime or None
        When the hub's operator ended it, until it is asked for again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan_sha256: str
    plan: str
    sites: tuple[str, ...]
    rounds: int
    flower_runs: tuple[int, ...]
    since: AwareDatetime
    cancelled: AwareDatetime | None = None


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes
    ----------
    submission : Submission
    folder : Path
        Run folder.
    state : str
        "waiting" before the first round has ended, "running", "finished", or "stopped" early, by itself or cancelled.
    round : int
        Last finished one.
    reason : str
        Why it stopped.
    """

    submission: Submission
    folder: Path
    state: State
    round: int
    reason: str


def submit(state: Path, plan_file: Path, now: datetime) -> RunState:
    """Start the run of a plan, or go on with it where it was interrupted.

    Parameters
    ----------
    state : Path
        The hub's folder; the hub must run.
    plan_file : Path
        From `medfl plan create`.
    now : datetime
        With a time zone.

    Raises
    ------
    ConfigError
        If the plan has a mistake, has ended, is for another version of medfl or for sites that are not enrolled, or its
        run has finished.
    FederationError
        If the hub does not run, or Flower refuses.
    """
    settings = load_hub(state)
    plan = read_plan(plan_file)
    _check(plan, settings, now)
    running = read_running(settings.state)
    if running is None or running.phase != "running":
        raise FederationError("The hub must run; it does not. Start it with 'medfl hub start'.")
    with locked(settings.submitted):
        return _submitted(settings, plan, now)


def _submitted(settings: HubSettings, plan: Plan, now: datetime) -> RunState:
    known = run_state(settings, plan.sha256())
    superlink = SuperLink(settings)
    if known is not None:
        if known.state == "finished":
            raise ConfigError(
                f"A plan runs once; this one has finished, its run folder is {known.folder.name}. Make a new plan."
            )
        if set(known.submission.flower_runs) & _alive(superlink):
            raise ConfigError(f"A plan runs once; {known.folder.name} is at work. See 'medfl hub status'.")
    earlier = () if known is None else known.submission.flower_runs
    try:
        write_bytes(_plan_file(settings, plan.sha256()), plan.canonical())
        return _start(settings, superlink, plan, earlier, now)
    except OSError as error:
        raise ConfigError(f"A hub's folder must be writable; it is not ({error.strerror}).") from error


def resume_all(settings: HubSettings, superlink: SuperLink) -> Iterable[str]:
    """Go on with every run that neither finished, stopped by itself nor was cancelled; yields a line for each.

    Parameters
    ----------
    settings : HubSettings
    superlink : SuperLink
        Must run, its executor not yet.
    """
    for one in run_states(settings):
        with locked(settings.submitted):
            again = run_state(settings, one.submission.plan_sha256)
            line = "" if again is None else _resumed(settings, superlink, again)
        if line:
            yield line


def _resumed(settings: HubSettings, superlink: SuperLink, one: RunState) -> str:
    """Go on with one run, where it has to; returns what the operator is told."""
    is_cancelled = one.submission.cancelled is not None  # perhaps while the hub did not run
    if one.state == "finished" or (one.state == "stopped" and not is_cancelled):
        return ""
    name = one.folder.name
    try:
        if is_cancelled:
            end_flower_run(superlink, one.submission)
            return ""
        plan = read_plan(_plan_file(settings, one.submission.plan_sha256))
        _check(plan, settings, datetime.now(UTC))
        end_flower_run(superlink, one.submission)
        _start(settings, superlink, plan, one.submission.flower_runs, one.submission.since)
    except MedFLError as error:
        return f"The run {name} cannot {'be ended' if is_cancelled else 'go on'}: {error}"
    except OSError as error:
        return f"The run {name} cannot go on: the hub's folder must be writable; it is not ({error.strerror})."
    return f"The run {name} goes on after round {one.round}."


def run_states(settings: HubSettings) -> tuple[RunState, ...]:
    """Return every run that was asked for, the newest first.

    Parameters
    ----------
    settings : HubSettings

    Raises
    ------
    ConfigError
        If a file of `submitted` cannot be read.
    """
    found = (_read(settings, path) for path in settings.submitted.glob(f"*{_ENDING}"))
    return tuple(sorted(found, key=lambda one: one.submission.since, reverse=True))


def run_state(settings: HubSettings, plan_sha256: str) -> RunState | None:
    """Return the run of a plan; None where it was not asked for. See `run_states`."""
    path = _run_file(settings, plan_sha256)
    return _read(settings, path) if path.is_file() else None


def _read(settings: HubSettings, path: Path) -> RunState:
    try:
        return _state_of(settings, Submission.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise ConfigError(f"submitted/{path.name} must say what was asked for; it cannot be read.") from error


def write_submission(settings: HubSettings, submission: Submission) -> None:
    """Keep what was asked for."""
    write_text(_run_file(settings, submission.plan_sha256), submission.model_dump_json())


def end_flower_run(superlink: SuperLink, submission: Submission) -> None:
    """End what Flower still has of a run, so that no site gets an old message beside a new one."""
    alive = _alive(superlink)
    for number in submission.flower_runs:
        if number not in alive:
            continue
        try:
            superlink.stop(number)
        except FederationError:
            if number in _alive(superlink):  # it has not just ended by itself
                raise


def _state_of(settings: HubSettings, submission: Submission) -> RunState:
    folder = _folder(settings, submission.plan, submission.plan_sha256)
    store = RunStore(folder)
    try:
        number = len(store.read_history().rounds) if store.has_history() else 0
    except RunFolderError:
        number = 0
    reason = store.read_stopped()
    state: State = "running" if number else "waiting"
    if store.is_finished():
        state = "finished"
    elif submission.cancelled is not None:
        state = "stopped"
        reason = f"The hub's operator cancelled it on {submission.cancelled:%Y-%m-%d %H:%M} UTC."
    elif reason:
        state = "stopped"
    return RunState(submission, folder, state, number, reason)


def _start(
    settings: HubSettings, superlink: SuperLink, plan: Plan, earlier: tuple[int, ...], since: datetime
) -> RunState:
    config, digest = settings_of(plan), plan.sha256()
    folder = _folder(settings, plan.name, digest)
    RunStore(folder).write_stopped("")
    with tempfile.TemporaryDirectory(dir=settings.state / "run", prefix="bundle-") as place:
        bundle, run_config = Path(place) / "app", Path(place) / "run.toml"
        bundle.mkdir()
        for name, content in bundle_files(plan).items():
            (bundle / name).write_bytes(content)
        run_config.write_text(run_config_toml(RunSettings(config, folder, len(plan.sites))), encoding="utf-8")
        number = superlink.submit(bundle, run_config)
    made = Submission(
        plan_sha256=digest,
        plan=plan.name,
        sites=plan.sites,
        rounds=config.training.rounds,
        flower_runs=(*earlier, number),
        since=since,
    )
    write_submission(settings, made)
    return _state_of(settings, made)


def _check(plan: Plan, settings: HubSettings, now: datetime) -> None:
    if plan.medfl_version != medfl.__version__:
        raise ConfigError(
            f"A plan must be made for the hub's version {medfl.__version__}; this one is for {plan.medfl_version}. "
            "Make it anew."
        )
    if plan.expires < now.date():
        raise ConfigError(f"A plan must not have ended; this one ended on {plan.expires}. Make a new one.")
    missing = sorted(set(plan.sites) - {one.site for one in enrolled(settings)})
    if missing:
        raise ConfigError(
            f"Every site of a plan must be enrolled; missing: {', '.join(missing)}. Take them in with 'medfl hub "
            "enroll'."
        )


def _alive(superlink: SuperLink) -> set[int]:
    return {one.number for one in superlink.runs() if not one.is_over}


def _folder(settings: HubSettings, name: str, digest: str) -> Path:
    return settings.runs / f"{name}-{digest[:_SHORT]}"


def _run_file(settings: HubSettings, digest: str) -> Path:
    return settings.submitted / f"{digest}{_ENDING}"


def _plan_file(settings: HubSettings, digest: str) -> Path:
    return settings.submitted / f"{digest}.json"
