"""The lines of a site's audit log: closed fields, so that no text of an exception, no path and no value gets in."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from medfl.governance.person import PERSON

Operation = Literal[
    "site.init",
    "site.enroll",
    "site.start",
    "site.stop",
    "site.pause",
    "site.resume",
    "site.purge",
    "plan.rehearse",
    "plan.approve",
    "plan.refuse",
    "plan.revoke",
    "task.refuse",
    "task.start",
    "message.refuse",
    "reply.send",
    "reply.refuse",
    "reply.error",
    "worker.start",
    "worker.stop",
    "subject.withdraw",
    "subject.readmit",
    "gate.pass",
    "gate.refuse",
    "log.recovered",
]
"""Everything that is ever logged."""

Verdict = Literal["", "ok", "sent", "refused", "failed"]

REASONS = frozenset(
    {
        # approvals
        "not_approved", "revoked", "expired", "changed", "over_policy", "paused", "excluded",
        # what the hub sent
        "bundle", "settings", "run_config", "message_kind", "message_record", "message_array", "message_order",
        "message_count", "message_round", "message_bytes", "message_dtype", "message_shape", "message_content",
        "task_type", "not_an_array", "unreadable",
        # what would have left
        "unknown_kind", "unknown_record", "unknown_array", "missing_array", "shape", "dtype", "bytes", "total_bytes",
        "times", "report", "too_few_subjects",
        # joining a hub
        "hub_certificate", "hub_answer", "not_enrolled", "signature", "site", "key", "fingerprint",
        # what went wrong at the site
        "internal_error", "data_error", "shape_error", "forbidden_reply", "privacy_error", "budget_exhausted",
        "worker_died", "worker_timeout", "worker_start", "deadline", "version", "clock", "disk_full", "hub_unreachable",
        "supernode_exit", "stopped", "gate", "torn_line",
    }
)  # fmt: skip
"""Words that say why; any other becomes `UNLISTED`, so that no text can slip into the log."""
UNLISTED = "unlisted"


class Entry(BaseModel):
    """One line.

    Attributes
    ----------
    when : str
        UTC, ISO 8601; information only, the order of lines is what counts.
    operation : str
        One of `Operation`.
    who : str
        Staff member or program.
    plan_sha256, run_id : str
        Empty where there is none.
    round : int
    bytes_out : int
        Bytes that left with this entry.
    epsilon : float, "infinite" or None
        Of the guarantee that the plan gives for all replies of this kind together ("infinite": none is proven); None
        where no arrays left. What was really spent stands in the ledger.
    verdict : str
        One of `Verdict`.
    reason : str
        One of `REASONS`, or `UNLISTED`.
    digest : str
        SHA-256 of something the entry is about: of a torn line, of a withdrawn pseudonym with the site's salt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    when: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    operation: Operation
    who: Annotated[str, StringConstraints(pattern=PERSON)]
    plan_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{0,20}$")] = ""
    round: int = Field(default=0, ge=0, le=1_000_000)
    bytes_out: int = Field(default=0, ge=0, lt=2**53)
    epsilon: Annotated[float, Field(ge=0)] | Literal["infinite"] | None = None
    verdict: Verdict = ""
    reason: Annotated[str, StringConstraints(pattern=r"^[a-z_]{0,24}$")] = ""
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""


OPERATIONS: frozenset[str] = frozenset(get_args(Operation))
"""Names of all operations."""
