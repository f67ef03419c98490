"""What an audit left beside a run: whether it is signed, its pictures, and protections side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from medfl.errors import AuditError, MedFLError
from medfl.results.arms import ArmTable
from medfl.results.attack import best_retrained
from medfl.results.audit_store import AuditStore
from medfl.results.report import AuditReport

if TYPE_CHECKING:
    from medfl.audit.pictures import Picture

_LARGEST = 64_000_000
_MOST_RUNS = 12

Decided = Literal["release", "refuse", "none"]


@dataclass(frozen=True)
class Signed:
    """Whether a report is what was signed.

    Attributes
    ----------
    is_whole : bool
    signer : str
        Fingerprint of the key that signed it; "" where nothing valid is there.
    decided : str
        What an officer decided about it.
    officer, day : str
    """

    is_whole: bool
    signer: str = ""
    decided: Decided = "none"
    officer: str = ""
    day: str = ""


@dataclass(frozen=True)
class ArmPoint:
    """One protection: how well the task is done, and what an attacker finds.

    Attributes
    ----------
    name : str
    utility, leakage : float
    is_this : bool
        Whether it is the run that is looked at.
    """

    name: str
    utility: float
    leakage: float
    is_this: bool


@dataclass(frozen=True)
class ArmPoints:
    """Protections side by side.

    Attributes
    ----------
    utility, leakage : str
        What the two numbers are of.
    limit : float or None
        Margin of the leakage.
    points : tuple of ArmPoint
    """

    utility: str
    leakage: str
    limit: float | None
    points: tuple[ArmPoint, ...]


def check_signature(run: Path) -> Signed:
    """Return whether the report of a run is signed and unchanged, and what was decided about it."""
    from medfl.audit.signature import fingerprint
    from pipelines.audit_files import read_signed

    try:
        found = read_signed(run)
        signer = fingerprint(found.tool)
    except (MedFLError, OSError, ValueError):
        return Signed(is_whole=False)
    decision = found.decision
    if decision is None:
        return Signed(is_whole=True, signer=signer)
    return Signed(True, signer, decision.decision, decision.officer, decision.decided)


def reconstructions(run: Path, report: AuditReport) -> "tuple[Picture, ...]":
    """Return the worst reconstructions that a report names, each beside its original; none where they are gone.

    They show patients, and are checked against the digests in the report.
    """
    from pipelines.audit_files import kept_pictures

    try:
        return kept_pictures(run, report)
    except (AuditError, ValidationError, OSError, ValueError):
        return ()


def signed_files(run: Path) -> dict[str, bytes]:
    """Return the report, its signature and its prints by file name, as they lie in the run folder."""
    store = AuditStore.of(run)
    places = (store.report, store.signature, store.tool_key, store.print("en"), store.print("de"))
    files = {}
    for path in places:
        try:
            if path.stat().st_size <= _LARGEST:
                files[path.name] = path.read_bytes()
        except OSError:
            continue
    return files


def arms_beside(run: Path, others: Sequence[Path]) -> ArmPoints | None:
    """Return protections side by side: those that `medfl compare --arms` left, else audited runs of the same task.

    Parameters
    ----------
    run : Path
        The run folder.
    others : sequence of Path
        Run folders to compare with; at most twelve are looked at.
    """
    return _from_arms(run) or _from_audits(run, others)


def _from_arms(run: Path) -> ArmPoints | None:
    """Read `arms.json` in the folder that holds a comparison's runs, or in the run's own."""
    for folder in (run.resolve().parent, run.resolve()):
        path = folder / "arms.json"
        try:
            if path.stat().st_size > _LARGEST:
                continue
            table = ArmTable.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        points = []
        for row in table.rows:
            try:
                attack = best_retrained(row.attacks)
            except MedFLError:
                continue
            points.append(ArmPoint(row.arm, row.utility.value, attack.value, is_this=False))
        if points:
            return ArmPoints(table.rows[0].utility.name, "re-identification: auc", None, tuple(points))
    return None


def _from_audits(run: Path, others: Sequence[Path]) -> ArmPoints | None:
    from pipelines.audit_comparison import compare_audits

    audited = [folder for folder in others if folder != run and AuditStore.of(folder).report.exists()]
    kept = [run]
    for folder in audited[:_MOST_RUNS]:
        try:
            compare_audits([*kept, folder])
            kept.append(folder)
        except (MedFLError, ValueError, OSError):  # another task, other margins, unsigned
            continue
    if len(kept) < 2:
        return None
    table = compare_audits(kept)
    points = tuple(
        ArmPoint(f"{row.arm} ({row.run})", row.utility.value, row.leakage.value, row.run == run.resolve().name)
        for row in table.rows
        if row.leakage is not None
    )
    return ArmPoints(table.rows[0].utility.name, table.leakage, table.limit, points) if points else None
