"""What an officer allows before anything is attacked: margins, and what an audit must hold to count.

The defaults are a starting point, each with its reason; a site sets its own in a file.
"""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medfl.errors import ConfigError
from medfl.results.attack import Family
from medfl.results.canonical import sha256
from medfl.results.report import Question


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Margins(_Closed):
    """Limits that an upper bound must stay under.

    Attributes
    ----------
    verification_auc : float
        Same patient or not, by the best re-trained attacker. 0.55 lets 1.6 % of pairs through at 1 % false alarms
        under the equal-variance model, where guessing lets 1 % through.
    linkage_auc : float
        The same across releases under different keys.
    rank_1 : float
        Share of patients named first among `gallery`. 0.09 is the risk that medicines regulators publish trial data
        at (EMA Policy 0070, Health Canada).
    reconstruction_rank_1 : float
        Share of inverted features or images whose original is the nearest of the pool; as `rank_1`.
    membership_auc, sums_auc : float
        Was this patient in the training data?
    attribute_excess : float
        Area above what the class label alone gives away.
    """

    verification_auc: float = Field(default=0.55, gt=0.5, lt=1)
    linkage_auc: float = Field(default=0.55, gt=0.5, lt=1)
    rank_1: float = Field(default=0.09, gt=0, lt=1)
    reconstruction_rank_1: float = Field(default=0.09, gt=0, lt=1)
    membership_auc: float = Field(default=0.55, gt=0.5, lt=1)
    sums_auc: float = Field(default=0.55, gt=0.5, lt=1)
    attribute_excess: float = Field(default=0.05, gt=0, lt=0.5)


class AuditPolicy(_Closed):
    """Everything an audit and its gate are judged by; `medfl/audit-policy/1`.

    Attributes
    ----------
    margins : Margins
    gallery : int
        Size of the gallery that `rank_1` is about.
    positive_control_auc : float
        An attacker that does not reach this on clear features is too weak to certify anything.
    allowed : dict of str to tuple of str
        Per question the verdicts that the gate lets pass.
    decision : str
        "required": the gate wants a signed decision of the officer. "optional": it checks one where there is one.
    officers : tuple of str
        Public keys ("ssh-ed25519 AAAA...") whose decisions count.
    tools : tuple of str
        Public keys of installations whose reports count; empty: the key in the report's own folder is shown, and
        nothing says whose it is.
    """

    schema_: Literal["medfl/audit-policy/1"] = Field(default="medfl/audit-policy/1", alias="schema")
    margins: Margins = Margins()
    gallery: int = Field(default=100, ge=2)
    positive_control_auc: float = Field(default=0.75, gt=0.5, lt=1)
    allowed: dict[Question, tuple[str, ...]] = Field(
        default={
            "singling out": ("below margin",),
            "linkability": ("below margin",),
            "inference": ("below margin",),
        }
    )
    decision: Literal["required", "optional"] = "required"
    officers: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        known = {"below margin", "above margin", "inconclusive"}
        for question in ("singling out", "linkability", "inference"):
            if question not in self.allowed:
                raise ValueError(f"allowed must name every question; '{question}' is missing")
        unknown = {status for statuses in self.allowed.values() for status in statuses} - known
        if unknown:
            raise ValueError("allowed verdicts are: below margin, above margin, inconclusive; never invalid")
        return self

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON."""
        return sha256(self.model_dump(mode="json", by_alias=True))


def read_policy(path: Path | None) -> AuditPolicy:
    """Return the policy in a YAML file, or the default one.

    Raises
    ------
    ConfigError
        If the file cannot be read or breaks the schema.
    """
    if path is None:
        return AuditPolicy()
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        return AuditPolicy.model_validate({} if value is None else value)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"The policy must be a readable YAML file; {path.name} is not.") from error
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"The policy must follow medfl/audit-policy/1: {places}.") from error


_NO_FINDING = "no finding"

_MARGIN_OF: dict[tuple[Family, str], tuple[Question, str]] = {
    ("re-identification", "auc"): ("linkability", "verification_auc"),
    ("re-identification", "rank_1"): ("singling out", "rank_1"),
    ("linkage", "auc"): ("linkability", "linkage_auc"),
    ("inversion", "rank_1"): ("singling out", "reconstruction_rank_1"),
    ("gradient inversion", "rank_1"): ("singling out", "reconstruction_rank_1"),
    ("key hygiene", "findings"): ("linkability", _NO_FINDING),
    ("membership", "auc"): ("inference", "membership_auc"),
    ("released sums", "auc"): ("inference", "sums_auc"),
    ("attributes", "auc"): ("inference", "attribute_excess"),
}

QUESTION_FAMILIES: dict[Question, tuple[Family, ...]] = {
    "singling out": ("re-identification", "inversion", "gradient inversion"),
    "linkability": ("re-identification", "linkage", "key hygiene"),
    "inference": ("membership", "attributes", "released sums"),
}
"""Every family has to be run, or not be applicable, before an answer can be 'below margin'."""


def question_of(family: Family, metric: str) -> Question | None:
    """Return the question that a headline attack answers; None where it answers none by itself."""
    found = _MARGIN_OF.get((family, metric))
    return None if found is None else found[0]


def limit_of(policy: AuditPolicy, family: Family, metric: str, chance: float) -> float:
    """Return the value that an attack's upper bound must stay under.

    Parameters
    ----------
    policy : AuditPolicy
    family : str
    metric : str
    chance : float
        The attack's baseline; margins of attributes are counted from there.

    Raises
    ------
    ConfigError
        If the metric has no margin.
    """
    found = _MARGIN_OF.get((family, metric))
    if found is None:
        raise ConfigError(f"There is no margin for '{metric}' of {family}.")
    if found[1] == _NO_FINDING:
        return 1.0
    margin = float(getattr(policy.margins, found[1]))
    return chance + margin if found[1] == "attribute_excess" else margin
