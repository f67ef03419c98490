"""One look at a site: does it run, for which hub, what is approved, what has left, what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

from app.site.enrolling import enrolled_link, enrolment, is_enrolled
from app.site.pause import Pause, paused
from app.site.retention import overdue
from app.site.settings import SiteSettings, load_settings
from app.supervision.running import Running, is_alive, read_running
from medfl.errors import MedFLError
from medfl.governance.approvals import Approvals
from medfl.governance.audit_entry import Entry
from medfl.governance.audit_log import AuditLog
from medfl.governance.exclude_list import ExcludeList

Found = TypeVar("Found")


@dataclass(frozen=True)
class HubFacts:
    """The hub that the site is enrolled at.

    Attributes
    ----------
    name, address, fingerprint : str
    since : date
    """

    name: str
    address: str
    fingerprint: str
    since: date


@dataclass(frozen=True)
class PlanState:
    """A plan that was decided on.

    Attributes
    ----------
    name, sha256 : str
    state : str
        "approved", "revoked" or "expired".
    by : str
    until : date
    """

    name: str
    sha256: str
    state: Literal["approved", "revoked", "expired"]
    by: str
    until: date


@dataclass(frozen=True)
class LogFacts:
    """What the audit log says.

    Attributes
    ----------
    entries : int
    is_sound : bool
        Whether every line is as it was written.
    replies, bytes_out : int
        That left, over all plans.
    last_reply, last_refusal : Entry or None
    """

    entries: int
    is_sound: bool
    replies: int
    bytes_out: int
    last_reply: Entry | None
    last_refusal: Entry | None


@dataclass(frozen=True)
class SiteState:
    """What was found; a part that could not be read is None, and named in `problems`.

    Attributes
    ----------
    name : str
    hub : HubFacts or None
        None where the site is not enrolled, too.
    running : Running or None
        None where it does not run.
    missing : tuple of str
        Programs that should run and do not.
    pause : Pause or None
    plans : tuple of PlanState or None
    log : LogFacts or None
    withdrawn : int or None
        Subjects who withdrew.
    overdue : int or None
        Plans whose files here have outlived the site's retention.
    has_ledger : bool
    problems : tuple of str
        One sentence each.
    """

    name: str
    hub: HubFacts | None
    running: Running | None
    missing: tuple[str, ...]
    pause: Pause | None
    plans: tuple[PlanState, ...] | None
    log: LogFacts | None
    withdrawn: int | None
    overdue: int | None
    has_ledger: bool
    problems: tuple[str, ...]


def site_state(state: Path, today: date) -> SiteState:
    """Look at a site, whether it runs or not.

    Parameters
    ----------
    state : Path
        The site's folder.
    today : date

    Raises
    ------
    ConfigError
        If there is no such site, or its settings have a mistake.
    """
    settings = load_settings(state)
    problems: list[str] = []

    def tried(read: Callable[[], Found]) -> Found | None:
        try:
            return read()
        except MedFLError as error:
            problems.append(str(error))
            return None

    running = read_running(settings.state)
    missing = () if running is None else tuple(one.name for one in running.programs if not is_alive(one.number))
    if running is not None and running.problem:
        problems.append(running.problem)
    log = tried(lambda: _log_facts(AuditLog(settings.audit_log)))
    if log is not None and not log.is_sound:
        problems.append("The audit log was changed. Find out where with 'medfl log verify'.")
    excluded = tried(lambda: ExcludeList(settings.state).subjects())
    kept = tried(lambda: overdue(settings.state, today))
    return SiteState(
        name=settings.name,
        hub=tried(lambda: _hub_facts(settings)),
        running=running,
        missing=missing if running is not None and running.phase == "running" else (),
        pause=paused(settings.state),
        plans=tried(lambda: _plans(settings.state, today)),
        log=log,
        withdrawn=None if excluded is None else len(excluded),
        overdue=None if kept is None else len(kept),
        has_ledger=settings.ledger.exists(),
        problems=tuple(problems),
    )


def _hub_facts(settings: SiteSettings) -> HubFacts | None:
    if not is_enrolled(settings):
        return None
    answer, link = enrolment(settings), enrolled_link(settings)
    return HubFacts(answer.hub, link.address, answer.fingerprint, answer.made)


def _plans(state: Path, today: date) -> tuple[PlanState, ...]:
    return tuple(
        PlanState(
            one.plan.name,
            one.plan_sha256,
            "revoked" if one.revoked_at else "expired" if today > one.expires else "approved",
            one.revoked_by or one.approved_by,
            one.expires,
        )
        for one in Approvals(state).all()
    )


def _log_facts(log: AuditLog) -> LogFacts:
    entries = log.entries()
    replies = [entry for entry in entries if entry.operation == "reply.send"]
    refusals = [entry for entry in entries if entry.verdict in ("refused", "failed")]
    return LogFacts(
        entries=len(entries),
        is_sound=log.verify() is None,
        replies=len(replies),
        bytes_out=sum(entry.bytes_out for entry in replies),
        last_reply=replies[-1] if replies else None,
        last_refusal=refusals[-1] if refusals else None,
    )
