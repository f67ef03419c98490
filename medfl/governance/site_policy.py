"""What a site allows, whatever a plan asks for: the stricter of both holds, and the site refuses rather than lowers."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medfl.governance.policy import AuditPolicy

Task = Literal["segmentation", "classification"]
Sharing = Literal["weights", "features"]
Protector = Literal["bottleneck", "projection", "gaussian", "plain", "quantize", "knt"]
TrainingPrivacy = Literal["none", "dp_sgd", "dp_updates", "dp_fedavg"]


class SitePolicy(BaseModel):
    """The part ``policy`` of `site.yaml`.

    Attributes
    ----------
    tasks, sharing, privacy : tuple of str
        Kinds that a plan may have: of its task, of what is shared, and of differential privacy in training.
    protectors : tuple of str
        Stages that a plan may protect shared features with; any other is refused.
    required_protectors : tuple of str
        Stages that every plan that shares features must have.
    clear_features : bool
        Whether features may leave without any protector.
    targets : bool
        Whether labels or masks may leave, with features that the hub trains on.
    epsilon, delta : float
        Most that a plan may spend of one subject's privacy, composed as the site's ledger does it (replace one
        subject). None allows plans without a proven guarantee.
    minimum_subjects : int
        Fewest subjects behind every reply.
    reply_bytes, run_bytes : int
        Most bytes of arrays that one reply, and all replies of a plan together, may have.
    approval_days : int
        An approval ends after so many days at the latest.
    retention_days : int
        How long what a run left at the site is kept after the end of its approval.
    audit : AuditPolicy
        Margins that an audit of a run is judged by.
    gate : bool
        Whether a plan must be rehearsed on the site's own data, and its audit pass `audit`, before it can be approved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tasks: tuple[Task, ...] = ("segmentation", "classification")
    sharing: tuple[Sharing, ...] = ("weights",)
    privacy: tuple[TrainingPrivacy, ...] = ("none", "dp_sgd", "dp_updates", "dp_fedavg")
    protectors: tuple[Protector, ...] = ("bottleneck", "gaussian", "knt")
    required_protectors: tuple[Protector, ...] = ()
    clear_features: bool = False
    targets: bool = False
    epsilon: Annotated[float, Field(gt=0, le=1000)] | None = None
    delta: float = Field(default=1e-5, gt=0, lt=1)
    minimum_subjects: int = Field(default=5, ge=3)
    reply_bytes: int = Field(default=512 * 2**20, ge=1)
    run_bytes: int = Field(default=16 * 2**30, ge=1)
    approval_days: int = Field(default=365, ge=1, le=3650)
    retention_days: int = Field(default=180, ge=1, le=3650)
    audit: AuditPolicy = AuditPolicy()
    gate: bool = False

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        missing = [name for name in self.required_protectors if name not in self.protectors]
        if missing:
            raise ValueError(f"required_protectors must be among protectors; {', '.join(missing)} is not")
        return self
