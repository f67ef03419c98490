"""What every family of attacks gets in an audit, and how it says that there is nothing to attack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medfl.audit.findings import Findings
from medfl.audit.material import ReleasedFeatures
from medfl.governance.policy import AuditPolicy
from medfl.results.attack import AttackResult, Control, Family
from medfl.results.report import Budget, FamilyOutcome
from pipelines.audit_material import AuditedRun

_DRAWS: Mapping[Budget, int] = {"quick": 300, "standard": 1000, "full": 2000}

ANCHORS: Mapping[Budget, tuple[int, ...]] = {
    "quick": (4, 64),
    "standard": (4, 16, 64, 256),
    "full": (4, 16, 64, 256, 1024),
}
"""Numbers of images that an attacker knows beside the release."""


@dataclass(frozen=True, eq=False)
class AttackInput:
    """What every family gets.

    Attributes
    ----------
    run : AuditedRun
    material : ReleasedFeatures or None
        All features that left for training.
    one_class : ReleasedFeatures or None
        Those of the class with most subjects that can be linked.
    policy : AuditPolicy
    budget : str
    seed : int
    progress : callable
        Told what is being done.
    """

    run: AuditedRun
    material: ReleasedFeatures | None
    one_class: ReleasedFeatures | None
    policy: AuditPolicy
    budget: Budget
    seed: int
    progress: Callable[[str], None]

    @property
    def draws(self) -> int:
        """Draws of subjects for intervals."""
        return _DRAWS[self.budget]


Attack = Callable[[AttackInput], Findings]


def control(family: Family, kind: str, name: str, found: AttackResult, passed: bool, expected: str) -> Control:
    """Return a control from the attack that was made for it."""
    return Control.model_validate(
        {
            "family": family,
            "kind": kind,
            "name": f"{name}: {found.name}",
            "metric": found.metric,
            "value": found.value,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "expected": expected,
            "passed": passed,
        }
    )


def without_features(family: Family, run: AuditedRun) -> Findings:
    """Say of a run that released no features for training whether there will be any for predictions."""
    reason = "no features left a site for training"
    if run.config.sharing == "features":
        return not_run(family, f"{reason}; they do for predictions")
    return not_applicable(family, reason)


def not_applicable(family: Family, reason: str) -> Findings:
    """Say that the run released nothing that a family could attack."""
    return Findings(outcome=FamilyOutcome(family=family, status="not applicable", reason=reason))


def not_run(family: Family, reason: str) -> Findings:
    """Say why a family was left out; that forbids 'below margin'."""
    return Findings(outcome=FamilyOutcome(family=family, status="not run", reason=reason))
