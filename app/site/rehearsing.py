"""A site rehearses a plan on its own data, attacks what that would send, and lets its policy's gate decide."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from app.site.rehearsal_folders import rehearsal_folder
from app.site.settings import SiteSettings, load_settings
from medfl.audit.gate import objections
from medfl.audit.signature import SigningKey
from medfl.config.settings import Config
from medfl.data.manifest import Manifest
from medfl.errors import ConfigError, MedFLError, PlanNotApprovedError
from medfl.governance.audit_log import AuditLog
from medfl.governance.exclude_list import ExcludeList
from medfl.governance.person import checked_person
from medfl.governance.plan import Plan, read_plan
from medfl.results.report import AuditReport
from pipelines.audit_files import read_signed, write_report
from pipelines.audit_run import FAMILIES, WantedAudit, audit_run
from pipelines.progress import Observer
from pipelines.rehearsal import rehearsal_config, rehearsal_manifest, rehearsal_sha256, write_rehearsal_manifest
from pipelines.simulate import simulate
from pipelines.site_plan import settings_of

_KEY = "audit_key"
_ADVICE = "Rehearse it with 'medfl plan rehearse'."

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal made.

    Attributes
    ----------
    run : Path
        Run folder, with the report in `audit`.
    report : AuditReport
    """

    run: Path
    report: AuditReport


def rehearse(
    plan_file: Path,
    state: Path,
    *,
    by: str,
    budget: Literal["quick", "standard", "full"],
    observer: Observer,
    say: Say,
) -> Rehearsed:
    """Run a plan on the site's own data and audit it with the site's policy; nothing leaves.

    An earlier rehearsal of the same plan is replaced.

    Parameters
    ----------
    plan_file : Path
    state : Path
        The site's folder.
    by : str
        Who asks for it; goes into report and audit log.
    budget : str
        How hard the attacks try.
    observer : Observer
    say : callable
        Takes one line about the audit's progress.

    Raises
    ------
    ConfigError
        If the plan or the site's settings have a mistake.
    PlanNotApprovedError
        If the plan is not for this site.
    DataError
        If the site's data cannot be used.
    AuditError
        If the audit cannot be made.
    """
    settings, plan = load_settings(state), read_plan(plan_file)
    config, who = settings_of(plan), checked_person(by)
    _check_site(plan, settings)
    folder = _folder(settings, plan)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        manifest = _manifest(settings, plan, config)
        path = write_rehearsal_manifest(manifest)
    except OSError as error:
        raise ConfigError(f"A site's folder must be writable; it is not ({error.strerror}).") from error
    log = AuditLog(settings.audit_log)
    log.append("plan.rehearse", who=who, plan_sha256=plan.sha256(), verdict="ok")
    simulate(rehearsal_config(config, path), folder / "run", observer=observer)
    wanted = WantedAudit(
        families=FAMILIES,
        budget=budget,
        seed=0,
        auditor=who,
        recipient="the hub of the plan",
        key_holder="as the plan says",
        command=f"medfl plan rehearse PLAN --site STATE --budget {budget}",
    )
    report = audit_run(folder / "run", settings.policy.audit, wanted, observer, say)
    write_report(folder / "run", report, _signing_key(settings))
    return Rehearsed(folder / "run", report)


def gate_objections(plan: Plan, settings: SiteSettings, today: date) -> tuple[str, ...]:
    """Return every reason why a plan must not be approved here yet; none where the site's gate lets it through.

    Parameters
    ----------
    plan : Plan
    settings : SiteSettings
    today : date
    """
    run = _folder(settings, plan) / "run"
    if not run.is_dir():
        return (f"This plan was not rehearsed here. {_ADVICE}",)
    try:
        signed = read_signed(run)
        own = SigningKey.load(_key_file(settings)).public_line()
        expected = rehearsal_sha256(settings_of(plan), _manifest(settings, plan, settings_of(plan)), settings.name)
    except MedFLError as error:
        return (f"{error} {_ADVICE}",)
    if signed.tool.split()[:2] != own.split()[:2]:
        return (f"The report must be signed by this site's key; another key signed it. {_ADVICE}",)
    if signed.report.scope.plan_sha256 != expected:
        return (f"Settings, data or medfl changed since the rehearsal. {_ADVICE}",)
    return objections(signed, settings.policy.audit, today)


def check_gate(plan: Plan, settings: SiteSettings, today: date, *, by: str) -> None:
    """Return where the site's policy wants no gate, or its gate lets the plan through; logs what it decided.

    Parameters
    ----------
    plan : Plan
    settings : SiteSettings
    today : date
    by : str
        Who asked.

    Raises
    ------
    PlanNotApprovedError
        With reason "gate", and every reason.
    """
    if not settings.policy.gate:
        return
    found = gate_objections(plan, settings, today)
    log, digest = AuditLog(settings.audit_log), plan.sha256()
    if found:
        log.append("gate.refuse", who=by, plan_sha256=digest, verdict="refused", reason="gate")
        raise PlanNotApprovedError("gate", "This site's gate must let a plan through; it does not: " + " ".join(found))
    log.append("gate.pass", who=by, plan_sha256=digest, verdict="ok")


def _folder(settings: SiteSettings, plan: Plan) -> Path:
    return rehearsal_folder(settings.state, plan.sha256())


def _manifest(settings: SiteSettings, plan: Plan, config: Config) -> Manifest:
    without = ExcludeList(settings.state).subjects()
    return rehearsal_manifest(config, settings.data.manifest, settings.name, _folder(settings, plan), without)


def _check_site(plan: Plan, settings: SiteSettings) -> None:
    if settings.name not in plan.sites:
        raise PlanNotApprovedError("over_policy", f"A plan must name the site '{settings.name}'; this one does not.")


def _key_file(settings: SiteSettings) -> Path:
    return settings.private_key.with_name(_KEY)


def _signing_key(settings: SiteSettings) -> SigningKey:
    path = _key_file(settings)
    return SigningKey.load(path) if path.exists() else SigningKey.create(path, f"{settings.name} audit")
