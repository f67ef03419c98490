"""A subject withdraws: it is excluded from now on, and the site is told what it was part of."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.site.rehearsal_folders import forget_rehearsals
from app.site.settings import load_settings
from app.site.worker_account import share_exclude_list
from medfl.data.manifest import read_manifest
from medfl.errors import DataError
from medfl.governance.audit_log import AuditLog
from medfl.governance.exclude_list import ExcludeList
from medfl.governance.withdrawal import Affected, affected_runs

LIMITS = (
    "What left this site before stays where it went, and models that were trained on this subject among others stay as "
    "they are: nothing here makes them forget. Tell the hub's contact of each plan, and decide with the ethics board "
    "whether such a model may still be used."
)


@dataclass(frozen=True)
class Withdrawn:
    """What a withdrawal came to.

    Attributes
    ----------
    is_new : bool
        False where the subject was excluded already.
    studies : int
        Of this subject in the site's manifest; none of them is used again.
    affected : Affected
    cleared : int
        Files of prepared images that were deleted; they are made again without the subject.
    digest : str
        In the audit log in place of the pseudonym.
    """

    is_new: bool
    studies: int
    affected: Affected
    cleared: int
    digest: str


def withdraw(subject: str, state: Path, *, by: str, now: datetime, is_expected: bool = True) -> Withdrawn:
    """Exclude a subject for good, delete prepared copies of its images and rehearsals, and list the runs with it.

    Parameters
    ----------
    subject : str
        Pseudonym, as in the site's manifest.
    state : Path
    by : str
    now : datetime
        With a time zone.
    is_expected : bool
        Refuse a pseudonym that neither the manifest nor a run knows; it may be a typing error.

    Raises
    ------
    DataError
        If the subject is not known, or a list cannot be read.
    AuditLogError
        If the log cannot be written.
    """
    settings = load_settings(state)
    manifest = settings.data.manifest
    studies = len(read_manifest(manifest).where(subject=subject).rows) if manifest.exists() else 0
    affected = affected_runs(state / "runs", subject)
    if is_expected and not studies and not affected.runs:
        raise DataError(
            "A subject who withdraws must be in the site's manifest or in an earlier run; this one is in neither. "
            "Check the pseudonym, or use --ahead to keep it out of later imports."
        )
    tombstone = ExcludeList(state).add(subject, by, now)
    share_exclude_list(settings)
    cleared = _clear(settings.cache)
    forget_rehearsals(settings.state)
    AuditLog(settings.audit_log).append("subject.withdraw", who=by, verdict="ok", digest=tombstone.digest)
    return Withdrawn(tombstone.is_new, studies, affected, cleared, tombstone.digest)


def _clear(cache: Path) -> int:
    """Delete prepared images; one file holds those of all subjects."""
    files = list(cache.glob("*.safetensors"))
    for path in files:
        path.unlink(missing_ok=True)
    return len(files)
