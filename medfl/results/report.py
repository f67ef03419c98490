"""The audit report, `medfl/attack-audit/1`: what was attacked, what came of it, and what follows.

HTML and PDF are renderings of it; the canonical JSON is what is signed.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from medfl.results.attack import AttackResult, Control, Family
from medfl.results.canaries import CanaryCheck
from medfl.results.metrics import ResultModel
from medfl.results.privacy import Balance, Release

SCHEMA: Literal["medfl/attack-audit/1"] = "medfl/attack-audit/1"
Question = Literal["singling out", "linkability", "inference"]
Status = Literal["below margin", "above margin", "inconclusive", "invalid"]
Budget = Literal["quick", "standard", "full"]
ReasonCode = Literal["", "over margin", "void", "not run", "weak", "nothing to attack", "too few", "under margin"]
NOT_STATED = "not stated"


class Tool(ResultModel):
    """What made the report."""

    name: str = "medfl"
    version: str
    python: str
    libraries: dict[str, str] = Field(default_factory=dict)


class Scope(ResultModel):
    """What was attacked.

    Attributes
    ----------
    run : str
        Name of the configuration.
    arm : str
        The protection.
    sharing : str
        "weights" or "features".
    released : str
        What left the sites, in words.
    recipient, key_holder : str
        "not stated" until somebody says so.
    plan_sha256 : str
        Of the run's plan.
    release_sha256 : str
        Of the files that were attacked.
    sites : int
    subjects, studies : int
        Behind the release.
    subjects_with_two_studies : int
        Only they can be linked to themselves.
    split_sha256 : str
        Of the division of subjects into attacker's and test subjects.
    attacker_subjects, test_subjects : int
    """

    run: str
    arm: str
    sharing: Literal["weights", "features"]
    released: str
    recipient: str = NOT_STATED
    key_holder: str = NOT_STATED
    plan_sha256: str
    release_sha256: str
    sites: int
    subjects: int
    studies: int
    subjects_with_two_studies: int
    split_sha256: str
    attacker_subjects: int
    test_subjects: int


class FamilyOutcome(ResultModel):
    """One family of attacks.

    Attributes
    ----------
    family : str
    status : str
        "run"; "not applicable": the run released nothing that it could attack; "not run": left out; "failed".
    reason : str
        Why it was not run, or what limits it.
    attacks : tuple of AttackResult
    headline : tuple of int
        Indices of the attacks that verdicts rest on; chosen on validation subjects or fixed beforehand.
    controls : tuple of Control
    not_tried : tuple of str
        Attacks that belong to the family and were left out; they forbid "below margin".
    """

    family: Family
    status: Literal["run", "not applicable", "not run", "failed"]
    reason: str = ""
    attacks: tuple[AttackResult, ...] = ()
    headline: tuple[int, ...] = ()
    controls: tuple[Control, ...] = ()
    not_tried: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _headline_exists(self) -> Self:
        if any(not 0 <= index < len(self.attacks) for index in self.headline):
            raise ValueError("headline must hold indices of attacks")
        if self.status == "run" and not self.attacks:
            raise ValueError("a family that was run must hold an attack")
        return self


class Verdict(ResultModel):
    """The answer to one of the three questions of WP29 Opinion 05/2014.

    Attributes
    ----------
    question : str
    status : str
    reason : str
        One sentence.
    reason_code, reason_arguments : str and tuple of str
        The same for other languages: which sentence it is, and the names in it.
    margin : str
        In words: metric and limit.
    limit : float or None
        The limit alone.
    families : tuple of str
        What the answer rests on.
    strongest : str
        The headline attack nearest to or furthest over its margin; "" where there is none.
    value, ci_low, ci_high : float or None
        Of that attack.
    subjects_needed : int or None
        About how many test subjects an answer would take, where there were too few.
    """

    question: Question
    status: Status
    reason: str
    reason_code: ReasonCode = ""
    reason_arguments: tuple[str, ...] = ()
    margin: str
    limit: float | None = None
    families: tuple[Family, ...]
    strongest: str = ""
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    subjects_needed: int | None = None


class SubjectRisk(ResultModel):
    """How unequal the risk is: the mean hides the subjects that are easiest to find.

    Attributes
    ----------
    attack : str
    metric : str
        "auc": of each subject's own genuine pairs against all impostors.
    mean, worst_decile : float
        Over subjects; the worst decile is the mean over the tenth that is easiest to find.
    subjects : int
    """

    attack: str
    metric: str
    mean: float
    worst_decile: float
    subjects: int


class Curve(ResultModel):
    """Points of a curve, thinned.

    Attributes
    ----------
    name : str
    kind : str
        "roc": false against true positive rate. "cmc": rank against rate. "anchors": images that the attacker knows
        against what it finds.
    x, y : tuple of float
    y_low, y_high : tuple of float
        95 % intervals, resampled by subject; empty where there are none.
    metric : str
        What y is, for example "auc"; "" where the kind says it.
    """

    name: str
    kind: Literal["roc", "cmc", "anchors"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    y_low: tuple[float, ...] = ()
    y_high: tuple[float, ...] = ()
    metric: str = ""

    @model_validator(mode="after")
    def _points_are_whole(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"x and y must have the same length, got {len(self.x)} and {len(self.y)}")
        if len(self.y_low) != len(self.y_high) or len(self.y_low) not in (0, len(self.y)):
            raise ValueError("y_low and y_high must be empty or as long as y")
        return self


class PictureDigest(ResultModel):
    """A picture that shows a patient: it stays beside the report, which says what it was.

    Attributes
    ----------
    name, caption : str
    sha256 : str
        Of the bytes of its PNG files, one after the other.
    """

    name: str
    caption: str
    sha256: str


class AuditReport(ResultModel):
    """Everything `audit/report.json` holds.

    Attributes
    ----------
    schema_ : str
    created : str
        UTC, ISO 8601.
    tool : Tool
    auditor : str
        Who ran it.
    budget : str
    seed : int
    policy : dict
        The policy in full, margins included, as it was before the run.
    policy_sha256 : str
    scope : Scope
    verdicts : tuple of Verdict
    families : tuple of FamilyOutcome
    not_tested : tuple of str
    releases : tuple of Release
        Everything that left, with epsilon where there is one.
    balances : tuple of Balance
        What the sites' ledgers had booked when the run ended.
    canaries : tuple of CanaryCheck
        Claimed epsilons against what canaries show.
    subject_risk : tuple of SubjectRisk
    curves : tuple of Curve
    pictures : tuple of PictureDigest
    limitations : tuple of str
    command : str
        How to make it again.
    """

    schema_: Literal["medfl/attack-audit/1"] = Field(default=SCHEMA, alias="schema")
    created: str
    tool: Tool
    auditor: str = NOT_STATED
    budget: Budget
    seed: int
    policy: dict[str, object]
    policy_sha256: str
    scope: Scope
    verdicts: tuple[Verdict, ...]
    families: tuple[FamilyOutcome, ...]
    not_tested: tuple[str, ...] = ()
    releases: tuple[Release, ...] = ()
    balances: tuple[Balance, ...] = ()
    canaries: tuple[CanaryCheck, ...] = ()
    subject_risk: tuple[SubjectRisk, ...] = ()
    curves: tuple[Curve, ...] = ()
    pictures: tuple[PictureDigest, ...] = ()
    limitations: tuple[str, ...] = ()
    command: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        asked = [verdict.question for verdict in self.verdicts]
        if sorted(asked) != ["inference", "linkability", "singling out"]:
            raise ValueError("there must be one verdict per question: singling out, linkability, inference")
        for release in self.releases:
            if release.epsilon != float("inf") and (
                release.delta is None
                or release.adjacency in ("", "not applicable")
                or release.accountant in ("", "none")
                or not release.release_model
            ):
                raise ValueError("an epsilon must come with unit, adjacency, delta, accountant and release model")
        return self
