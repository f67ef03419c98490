"""How long what runs left at a site is kept: `policy.retention_days` after the approval of their plan ended."""

from datetime import date, timedelta
from pathlib import Path

from app.site.settings import load_settings
from medfl.governance.approvals import Approval, Approvals

_DIGITS = 16


def last_day(approval: Approval) -> date:
    """Return the last day that an approval was in force."""
    return approval.expires if approval.revoked_at is None else min(approval.expires, approval.revoked_at.date())


def plan_folder(state: Path, approval: Approval) -> Path:
    """Return the folder that the executor makes with the first message of a plan."""
    return state / "runs" / approval.plan_sha256[:_DIGITS]


def overdue(state: Path, today: date) -> tuple[Approval, ...]:
    """Return the approvals whose time of retention is over, and whose runs left something here.

    Parameters
    ----------
    state : Path
        The site's folder.
    today : date
    """
    kept_for = timedelta(days=load_settings(state).policy.retention_days)
    over = (one for one in Approvals(state).all() if last_day(one) + kept_for < today)
    return tuple(one for one in over if plan_folder(state, one).is_dir())
