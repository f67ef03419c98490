"""A hospital looks at a plan, approves it or takes its approval back; each is written into its audit log."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from app.site.rehearsing import check_gate
from app.site.settings import SiteSettings, load_settings
from medfl.config.settings import Config
from medfl.errors import ConfigError, PlanNotApprovedError
from medfl.governance.approvals import Approval, Approvals
from medfl.governance.audit_log import AuditLog
from medfl.governance.egress import Egress
from medfl.governance.exclude_list import ExcludeList
from medfl.governance.plan import Plan, read_plan
from pipelines.flower_bundle import bundle_sha256
from pipelines.plan_egress import SiteNumbers, egress_of
from pipelines.plan_policy import Objection, latest_end, objections, refuse
from pipelines.site_plan import Counts, counts_of, settings_of

_SHORTEST_HASH = 12


@dataclass(frozen=True)
class Viewed:
    """A plan as one site sees it.

    Attributes
    ----------
    plan : Plan
    config : Config
    egress : Egress
    counts : Counts or None
        Of the site's data, where they are known.
    objections : tuple of Objection
        Of the site's policy; empty where no site is given.
    settings : SiteSettings or None
    """

    plan: Plan
    config: Config
    egress: Egress
    counts: Counts | None
    objections: tuple[Objection, ...]
    settings: SiteSettings | None


def view(path: Path, today: date, *, state: Path | None = None, manifest: Path | None = None) -> Viewed:
    """Read a plan and work out what it means, for a site where one is given.

    Parameters
    ----------
    path : Path
        The plan.
    today : date
    state : Path or None
        The site's folder.
    manifest : Path or None
        Data to count; the site's own where it is None and there is a site.

    Raises
    ------
    ConfigError
        If the plan or the site's settings have a mistake.
    DataError
        If the manifest cannot be used.
    """
    plan = read_plan(path)
    config = settings_of(plan)
    settings = None if state is None else load_settings(state)
    name = plan.sites[0] if settings is None else settings.name
    if manifest is None and settings is not None:
        manifest = settings.data.manifest
    without = frozenset() if state is None else ExcludeList(state).subjects()
    counts = None if manifest is None else counts_of(config, manifest, name, without)
    numbers = SiteNumbers()
    if settings is not None:
        assert counts is not None
        numbers = SiteNumbers(name, settings.policy.minimum_subjects, max(1, counts.studies["train"]))
    elif counts is not None:
        numbers = SiteNumbers(studies=max(1, counts.studies["train"]))
    egress = egress_of(config, numbers)
    found: tuple[Objection, ...] = ()
    if settings is not None:
        found = objections(plan, config, egress, settings.policy, site=name, counts=counts, today=today)
    return Viewed(plan, config, egress, counts, found, settings)


def approve(path: Path, state: Path, *, by: str, sha256: str, now: datetime, expires: date | None = None) -> Approval:
    """Approve a plan at a site.

    Parameters
    ----------
    path : Path
        The plan.
    state : Path
        The site's folder.
    by : str
        Who decides.
    sha256 : str
        Hash of the plan that was read, or at least its first 12 digits.
    now : datetime
        With a time zone.
    expires : date or None
        Last day; None takes the earlier of the plan's and the policy's.

    Raises
    ------
    ConfigError
        If a value does not fit.
    PlanNotApprovedError
        If the file is another plan than the one that was read, or the site's policy does not allow it; every objection
        is named. The refusal is logged.
    """
    viewed = view(path, now.date(), state=state)
    assert viewed.settings is not None
    digest, log = viewed.plan.sha256(), AuditLog(viewed.settings.audit_log)
    _check_hash(digest, sha256)
    try:
        refuse(viewed.objections)
    except PlanNotApprovedError as error:
        log.append("plan.refuse", who=by, plan_sha256=digest, verdict="refused", reason=error.reason)
        raise
    check_gate(viewed.plan, viewed.settings, now.date(), by=by)
    latest = latest_end(viewed.settings.policy, now.date())
    if expires is not None and expires > latest:
        raise ConfigError(
            f"An approval must end by {latest}, {viewed.settings.policy.approval_days} days from today; got {expires}."
        )
    approval = Approvals(state).approve(
        viewed.plan,
        bundle_sha256=bundle_sha256(viewed.plan),
        egress=viewed.egress,
        by=by,
        now=now,
        expires=expires or min(latest, viewed.plan.expires),
    )
    log.append("plan.approve", who=approval.approved_by, plan_sha256=digest, verdict="ok", digest=approval.sha256())
    return approval


def revoke(sha256: str, state: Path, *, by: str, now: datetime) -> Approval:
    """Take an approval back; it counts from the next message on.

    Parameters
    ----------
    sha256 : str
        Of the plan, or at least its first 12 digits.
    state : Path
    by : str
    now : datetime

    Raises
    ------
    PlanNotApprovedError
        If there is no such approval.
    """
    settings = load_settings(state)
    approvals = Approvals(state)
    digests = [one.plan_sha256 for one in approvals.all() if one.plan_sha256.startswith(sha256)]
    known = len(sha256) >= _SHORTEST_HASH and len(digests) == 1
    approval = approvals.revoke(digests[0] if known else sha256, by, now)
    AuditLog(settings.audit_log).append(
        "plan.revoke", who=approval.revoked_by, plan_sha256=approval.plan_sha256, verdict="ok", digest=approval.sha256()
    )
    return approval


def _check_hash(digest: str, given: str) -> None:
    wanted = given.lower()
    if len(wanted) < _SHORTEST_HASH or not digest.startswith(wanted):
        raise PlanNotApprovedError(
            "changed",
            f"--sha256 must be the hash of the plan that was read, or its first {_SHORTEST_HASH} digits; this file has "
            f"{digest}. Look at it again: medfl plan show",
        )
