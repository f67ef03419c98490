"""Approved plans: whether they still hold, and one dry training step of each on the site's own data."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta

from pydantic import ValidationError

import medfl
from app.site.doctor.finding import Finding, ok, problem, skipped, warning
from app.site.settings import SiteSettings
from app.supervision.environment import program_environment
from medfl.config.settings import Config
from medfl.errors import MedFLError
from medfl.governance.approvals import Approval, Approvals
from medfl.governance.exclude_list import ExcludeList
from pipelines.dry_step import DryAnswer, DryQuestion
from pipelines.site_plan import settings_of

_SOON = timedelta(days=14)
_PATIENCE_S = 900.0
_GIB = 2**30
_SHORT = 12


def check_plans(settings: SiteSettings, today: date, *, with_step: bool) -> Iterator[Finding]:
    """Look at the approvals of a site.

    Parameters
    ----------
    settings : SiteSettings
    today : date
    with_step : bool
        Whether to try one training step of every plan that holds.
    """
    decisions = Approvals(settings.state).all()
    files = len(list((settings.state / "approvals").glob("*.json")))
    if files > len(decisions):
        yield problem(
            "plans.files",
            f"{files - len(decisions)} of {files} approvals were changed by hand or are open to others, and count as "
            "none.",
            "Approve those plans again with 'medfl plan approve'.",
        )
    else:
        yield ok("plans.files", f"{files} approvals are as they were written.")
    holding = [one for one in decisions if one.holds(today)]
    if not holding:
        yield warning(
            "plans.approved", "No plan is approved now; this site refuses every run.", "See 'medfl plan approve'."
        )
        return
    other = [one for one in holding if one.plan.medfl_version != medfl.__version__]
    ending = [one for one in holding if one.expires <= today + _SOON]
    if other:
        yield problem(
            "plans.approved",
            f"{_named(other)}: for medfl {other[0].plan.medfl_version}, and {medfl.__version__} is installed.",
            "Install that version, or ask the hub for a plan for this one.",
        )
    elif ending:
        yield warning("plans.approved", f"{_named(ending)}: ends by {ending[0].expires}.", "Approve it again in time.")
    else:
        yield ok("plans.approved", f"{_named(holding)}: approved.")
    for one in holding:
        if one not in other:
            yield _step(one, settings) if with_step else skipped("plans.step", "No step was tried (--no-step).")


def _step(approval: Approval, settings: SiteSettings) -> Finding:
    name = f"{approval.plan.name} ({approval.plan_sha256[:_SHORT]})"
    try:
        reason = _untried(settings_of(approval.plan))
        without = tuple(sorted(ExcludeList(settings.state).subjects()))
    except MedFLError as error:
        return problem("plans.step", f"{name}: {error}", "Ask the hub for a new plan.")
    if reason:
        return skipped("plans.step", f"{name}: {reason}")
    question = DryQuestion(
        settings=approval.plan.settings,
        site=settings.name,
        manifest=settings.data.manifest,
        cache=settings.cache,
        without=without,
    )
    answer = _asked(question, settings)
    if answer.error:
        return problem(
            "plans.step",
            f"{name}: one training step failed ({answer.error}).",
            "Look at the data with 'medfl data check', and at memory and disk above.",
        )
    said = (
        f"{name}: one training step on {answer.studies} studies took {answer.seconds:.1f} s and "
        f"{answer.peak_bytes / _GIB:.1f} GiB; a round would send {answer.reply_bytes:,} bytes of arrays."
    )
    if settings.worker.memory_bytes and answer.peak_bytes > settings.worker.memory_bytes:
        return problem("plans.step", said, "Raise worker.memory_bytes.")
    if answer.reply_bytes > settings.policy.reply_bytes:
        return problem("plans.step", said, "That is over policy.reply_bytes; the reply would be refused.")
    return ok("plans.step", said)


def _untried(config: Config) -> str:
    """Return why a step cannot be tried; empty where it can."""
    if config.sharing == "features":
        return "features are shared; no step is tried, since it would need the federation's key."
    if config.privacy.kind != "none":
        return "training is private; no step is tried, since every step is booked in the ledger."
    return ""


def _asked(question: DryQuestion, settings: SiteSettings) -> DryAnswer:
    environment = program_environment() | {"MEDFL_CACHE": str(settings.cache)}
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "pipelines.dry_step"],
            input=question.model_dump_json().encode(),
            env=environment,
            cwd=settings.state,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
        return DryAnswer.model_validate_json(ran.stdout)
    except subprocess.TimeoutExpired:
        return DryAnswer(error="no answer in time")
    except ValidationError:
        return DryAnswer(error="it was ended, perhaps for want of memory")


def _named(approvals: list[Approval]) -> str:
    return ", ".join(f"{one.plan.name} ({one.plan_sha256[:_SHORT]})" for one in approvals)
