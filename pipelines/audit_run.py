"""`medfl audit`: attack what a run released, and write a report of it."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np

import medfl
from medfl.attacks.division import Division, divide, linkable_class
from medfl.attacks.rates import subjects_for_margin
from medfl.audit.findings import Findings
from medfl.audit.material import ReleasedFeatures
from medfl.audit.picture_digests import picture_digest
from medfl.audit.verdicts import verdicts
from medfl.errors import ConfigError, MedFLError, TooFewSubjectsError
from medfl.governance.policy import AuditPolicy
from medfl.results.attack import Family
from medfl.results.audit_store import AuditStore
from medfl.results.report import (
    NOT_STATED,
    AuditReport,
    Budget,
    FamilyOutcome,
    Scope,
    Tool,
)
from medfl.results.store import RunStore
from pipelines.audit_families import ATTACKS
from pipelines.audit_files import part_key
from pipelines.audit_input import AttackInput, not_run
from pipelines.audit_material import AuditedRun, open_run, released_features
from pipelines.canary_check import check_canaries
from pipelines.progress import Observer

FAMILIES: tuple[Family, ...] = get_args(Family)
_LIBRARIES = ("torch", "numpy", "scipy", "monai", "flwr")
_SPREAD = 0.3
_LIMITATIONS = (
    "An attacker that was not tried may find more. Silence of an attack is no proof.",
    "The attacker learns from other subjects of the same release; one with more data of its own may do better.",
    "Equal-utility noise is not part of a single audit; 'medfl compare --arms' puts it beside each arm.",
    "Predictions of new studies release features again; they add to what is described here.",
)


@dataclass(frozen=True)
class WantedAudit:
    """What to attack, and how hard.

    Attributes
    ----------
    families : tuple of str
        Others are "not run", and no answer that needs them can be "below margin".
    budget : str
    seed : int
    auditor, recipient, key_holder : str
    command : str
        How the audit was started.
    """

    families: tuple[Family, ...] = FAMILIES
    budget: Budget = "standard"
    seed: int = 0
    auditor: str = NOT_STATED
    recipient: str = NOT_STATED
    key_holder: str = NOT_STATED
    command: str = ""

    def __post_init__(self) -> None:
        """Check the names."""
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown or not self.families:
            raise ConfigError(f"--attacks must be of: {', '.join(FAMILIES)}; got {', '.join(unknown) or 'nothing'}.")


Report = Callable[[str], None]


def audit_run(run: Path, policy: AuditPolicy, wanted: WantedAudit, observer: Observer, say: Report) -> AuditReport:
    """Attack a finished run, family by family; finished families are kept and not repeated.

    Parameters
    ----------
    run : Path
        Of a simulation, or a site's own.
    policy : AuditPolicy
    wanted : WantedAudit
    observer : Observer
        Told while data is prepared.
    say : callable
        Told what is being done, one line at a time.

    Raises
    ------
    AuditError
        If the run cannot be audited.
    """
    audited = open_run(RunStore(run), observer)
    material = released_features(audited)
    one_class = (
        None
        if material is None
        else material.rows(material.labels == linkable_class(material.subjects, material.labels))
    )
    division = _division(one_class, wanted.seed)
    say(_subjects_needed(division, policy))
    key = part_key(audited.release_sha256, policy.digest(), wanted.budget, wanted.seed, medfl.__version__)
    kept = AuditStore.of(run)
    given = AttackInput(audited, material, one_class, policy, wanted.budget, wanted.seed, lambda what: say(f"  {what}"))
    parts: list[Findings] = []
    for place, family in enumerate(FAMILIES, start=1):
        if family not in wanted.families:
            parts.append(not_run(family, "left out by --attacks"))
            continue
        earlier = kept.read_part(family, key)
        if earlier is not None:
            say(f"[{place}/{len(FAMILIES)}] {family}: kept from before")
            parts.append(Findings.model_validate(earlier))
            continue
        say(f"[{place}/{len(FAMILIES)}] {family}")
        part = _attacked(family, given)
        parts.append(part)
        if part.outcome.status == "run":
            kept.write_part(family, key, part.model_dump(mode="json"))
    return _report(audited, material, division, policy, wanted, parts)


def _attacked(family: Family, given: AttackInput) -> Findings:
    """Run one family; what goes wrong is part of the report, and forbids 'below margin'."""
    attack = ATTACKS.get(family)
    if attack is None:
        return not_run(family, "this version of medfl does not run it in an audit")
    try:
        return attack(given)
    except TooFewSubjectsError as error:
        return not_run(family, str(error))
    except MedFLError as error:
        return Findings(outcome=FamilyOutcome(family=family, status="failed", reason=str(error)))


def _division(material: ReleasedFeatures | None, seed: int) -> Division | None:
    """Return the division that re-identification makes; None where there is none."""
    if material is None:
        return None
    try:
        return divide(material.subjects, seed)
    except TooFewSubjectsError:
        return None


def _subjects_needed(division: Division | None, policy: AuditPolicy) -> str:
    """Say beforehand how many test subjects an answer takes, for 80 % power where nothing can be found.

    The spread of an area over n skewed subjects is about `_SPREAD` / sqrt(n) (``benchmarks/attack_statistics.py``).
    """
    distance = policy.margins.verification_auc - 0.5
    needed = subjects_for_margin(_SPREAD, 1, distance)
    there = 0 if division is None else division.linked_test_subjects
    return (
        f"A verdict 'below margin' on verification takes about {needed} test subjects with two studies or more; "
        f"there are {there}."
    )


def _report(
    run: AuditedRun,
    material: ReleasedFeatures | None,
    division: Division | None,
    policy: AuditPolicy,
    wanted: WantedAudit,
    parts: Sequence[Findings],
) -> AuditReport:
    families = [part.outcome for part in parts]
    training = [study for program in run.prepared.programs.values() for study in program.studies["train"]]
    counts = np.unique([study.row.subject for study in training], return_counts=True)[1]
    return AuditReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool=Tool(
            version=medfl.__version__,
            python=platform.python_version(),
            libraries={name: version(name) for name in _LIBRARIES},
        ),
        auditor=wanted.auditor,
        budget=wanted.budget,
        seed=wanted.seed,
        policy=policy.model_dump(mode="json", by_alias=True),
        policy_sha256=policy.digest(),
        scope=Scope(
            run=run.config.name,
            arm=run.config.arm,
            sharing=run.config.sharing,
            released="protected features, targets and sums"
            if material is not None
            else "weights and additive measures",
            recipient=wanted.recipient,
            key_holder=wanted.key_holder if run.config.protection.keyed is not None else "no key in use",
            plan_sha256=run.plan_sha256,
            release_sha256=run.release_sha256,
            sites=len(run.prepared.programs),
            subjects=len(counts),
            studies=len(training),
            subjects_with_two_studies=int((counts > 1).sum()),
            split_sha256="" if division is None else division.digest,
            attacker_subjects=0 if division is None else division.attacker_subjects,
            test_subjects=0 if division is None else division.test_subjects,
        ),
        verdicts=verdicts(families, policy),
        families=tuple(families),
        not_tested=_not_tested(families),
        releases=run.store.read_privacy().releases,
        balances=run.store.read_balances(),
        canaries=check_canaries(run.config, run.store, tuple(run.prepared.programs)),
        subject_risk=tuple(risk for part in parts for risk in part.subject_risk),
        curves=tuple(curve for part in parts for curve in part.curves),
        pictures=tuple(picture_digest(picture) for part in parts for picture in part.pictures),
        limitations=_LIMITATIONS,
        command=wanted.command,
    )


def _not_tested(families: Sequence[FamilyOutcome]) -> tuple[str, ...]:
    whole = [f"{family.family}: {family.reason}" for family in families if family.status in ("not run", "failed")]
    return (*whole, *(f"{family.family} by {what}" for family in families for what in family.not_tried))
