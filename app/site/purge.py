"""The end of a project at a site: what its runs left is deleted. Approvals, the ledger and the audit log are kept.

Files are removed, not overwritten: on most disks and in every backup old content can be found for a while. What left
the site stays where it went.
"""

import shutil
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from app.site.rehearsal_folders import rehearsal_folder
from app.site.retention import overdue, plan_folder
from app.site.settings import load_settings
from medfl.errors import ConfigError, PlanNotApprovedError
from medfl.governance.approvals import Approval, Approvals
from medfl.governance.audit_log import AuditLog
from medfl.governance.person import checked_person
from pipelines.site_answers import plan_number

_SHORTEST_HASH = 12


@dataclass(frozen=True)
class Purged:
    """What was deleted.

    Attributes
    ----------
    plan, plan_sha256 : str
        Name and hash.
    folders, files, nbytes : int
        Deleted, with all that was in them; bytes as they were on the disk.
    is_shared : bool
        Whether a run folder stayed because a plan with the same settings is still approved.
    """

    plan: str
    plan_sha256: str
    folders: int
    files: int
    nbytes: int
    is_shared: bool


def purge(state: Path, sha256: str, *, by: str, now: datetime) -> Purged:
    """Delete what the runs of one plan left here; its approval must have ended.

    Parameters
    ----------
    state : Path
        The site's folder.
    sha256 : str
        Of the plan, or at least its first 12 digits.
    by : str
        Who does it; goes into the audit log.
    now : datetime
        With a time zone.

    Raises
    ------
    ConfigError
        If the name or the hash does not fit, or something cannot be deleted.
    PlanNotApprovedError
        If no plan of that hash was ever approved here, or its approval still holds.
    AuditLogError
        If the log cannot be written; then nothing is deleted.
    """
    who, known = checked_person(by), Approvals(state).all()
    return _purged(state, _the_one(known, sha256, now.date()), known, who, now.date())


def purge_expired(state: Path, *, by: str, now: datetime) -> tuple[Purged, ...]:
    """Delete what is left of every plan whose time of retention (`policy.retention_days`) has ended; see `purge`."""
    who, known, today = checked_person(by), Approvals(state).all(), now.date()
    return tuple(_purged(state, one, known, who, today) for one in overdue(state, today))


def _the_one(known: tuple[Approval, ...], sha256: str, today: date) -> Approval:
    wanted = sha256.lower()
    if len(wanted) < _SHORTEST_HASH:
        raise ConfigError(f"A plan must be named by its hash, or its first {_SHORTEST_HASH} digits.")
    found = [one for one in known if one.plan_sha256.startswith(wanted)]
    if len(found) != 1:
        raise PlanNotApprovedError(
            "not_approved",
            "Only what an approved plan left can be purged; no plan of this hash was. See 'medfl plan list'.",
        )
    if found[0].holds(today):
        raise PlanNotApprovedError(
            "not_approved",
            f"The approval of plan '{found[0].plan.name}' must have ended before its files are purged; it holds until "
            f"{found[0].expires}. Revoke it first with 'medfl plan revoke'.",
        )
    return found[0]


def _folders(state: Path, approval: Approval, known: tuple[Approval, ...], today: date) -> tuple[list[Path], bool]:
    """Return what runs of a plan left, and whether a run folder is left out that an approved plan uses as well."""
    runs, plan = state / "runs", approval.plan
    own = [plan_folder(state, approval), rehearsal_folder(state, approval.plan_sha256)]
    is_shared = any(one.plan.settings == plan.settings and one.holds(today) for one in known)
    if not is_shared:
        own += runs.glob(f"*-{plan_number(plan.settings)}")
    found = [path for path in own if path.is_dir() and not path.is_symlink()]
    return found, is_shared


def _purged(state: Path, approval: Approval, known: tuple[Approval, ...], who: str, today: date) -> Purged:
    settings = load_settings(state)
    log, digest = AuditLog(settings.audit_log), approval.plan_sha256
    folders, is_shared = _folders(state, approval, known, today)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    nbytes = sum(path.lstat().st_size for path in files)
    log.append("site.purge", who=who, plan_sha256=digest, verdict="ok")
    try:
        for folder in folders:
            shutil.rmtree(folder)
        if not any(one.holds(today) for one in known):
            _clear(settings.cache)
    except OSError as error:
        log.append("site.purge", who=who, plan_sha256=digest, verdict="failed", reason="data_error")
        raise ConfigError(
            f"What a plan left must be deleted; some of it cannot be ({error.strerror}). Set the rights of the folder "
            "'runs' and purge again."
        ) from error
    return Purged(approval.plan.name, digest, len(folders), len(files), nbytes, is_shared)


def _clear(cache: Path) -> None:
    """Delete prepared images; they are made again for the next plan."""
    for path in cache.glob("*.safetensors"):
        path.unlink(missing_ok=True)
