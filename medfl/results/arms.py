"""What protections cost and what they leave, side by side."""

import math
from typing import Literal

from pydantic import Field

from medfl.results.attack import AttackResult, Family
from medfl.results.metrics import ResultModel
from medfl.results.privacy import Release
from medfl.results.report import Budget, Question, Status


class Utility(ResultModel):
    """How well the task is done on test subjects.

    Attributes
    ----------
    name : str
        As in `metrics.json`, for example "auroc" or "dice_mean".
    value, ci_low, ci_high : float
        With a 95 % interval, resampled by subject.
    n : int
        Test subjects.
    """

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int


class ArmResult(ResultModel):
    """One run of one protection.

    Attributes
    ----------
    arm : str
    seed : int
    epsilon : float
        Of the features alone, per subject; infinity unless proven.
    noise_std : float
        Of noise without a proof, in units of one standard deviation of a clear feature; 0 without.
    channels : int
        Of one study's protected features; 0 where no features are shared.
    utility : Utility
    attacks : tuple of AttackResult
        Re-identification of subjects the attacker has never seen; empty where nothing can be attacked.
    bytes_up : int
        Array bytes that all sites sent, for learning a bottleneck and in training.
    seconds : float
        The whole run, in one process.
    milliseconds_per_study : float
        Median time to protect one study's features; 0 without features.
    """

    arm: str
    seed: int
    epsilon: float = math.inf
    noise_std: float = Field(default=0.0, ge=0)
    channels: int = Field(ge=0)
    utility: Utility
    attacks: tuple[AttackResult, ...] = ()
    bytes_up: int = Field(ge=0)
    seconds: float = Field(ge=0)
    milliseconds_per_study: float = Field(ge=0)


class ArmTable(ResultModel):
    """Everything `arms.json` holds."""

    config: str
    rows: tuple[ArmResult, ...]


class FamilyHeadline(ResultModel):
    """What one family of attacks came to.

    Attributes
    ----------
    family : str
    status : str
        As in `FamilyOutcome`; "void": a null control found something where nothing is; "weak": a positive control
        failed or is missing, so that silence means nothing.
    attack : AttackResult or None
        Of the attacks that answers rest on the one furthest over its margin, or nearest to it.
    limit : float or None
        Its margin.
    """

    family: Family
    status: Literal["run", "void", "weak", "not applicable", "not run", "failed"]
    attack: AttackResult | None = None
    limit: float | None = None


class AuditedArm(ResultModel):
    """One finished run and its signed report.

    Attributes
    ----------
    run : str
        Name of the run folder.
    config, arm, sharing : str
    utility : Utility
        From `metrics.json`: pooled over all sites.
    private : tuple of Release
        Releases with a finite epsilon; it holds for them alone.
    unproven : int
        Releases without one. Over all that left there is a finite epsilon only where this is 0.
    families : tuple of FamilyHeadline
    leakage : AttackResult or None
        The headline attack that all runs of a table have; in re-identification the re-trained attacker.
    verdicts : dict of str to str
        Question -> answer.
    budget : str
    report_sha256 : str
    tool : str
        Public key that the report is signed with.
    """

    run: str
    config: str
    arm: str
    sharing: Literal["weights", "features"]
    utility: Utility
    private: tuple[Release, ...] = ()
    unproven: int = Field(ge=0)
    families: tuple[FamilyHeadline, ...]
    leakage: AttackResult | None = None
    verdicts: dict[Question, Status]
    budget: Budget
    report_sha256: str
    tool: str


class AuditTable(ResultModel):
    """Audited runs of one task side by side.

    Attributes
    ----------
    leakage : str
        What `AuditedArm.leakage` is of, in words; "" where the runs have no headline attack in common.
    limit : float or None
        Its margin.
    rows : tuple of AuditedArm
    notes : tuple of str
        What makes rows less comparable than they look.
    """

    leakage: str
    limit: float | None = None
    rows: tuple[AuditedArm, ...]
    notes: tuple[str, ...] = ()
