"""What an officer decided about a report, `medfl/release-decision/1`; signed with the officer's own key."""

import json
from datetime import date
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from medfl.errors import AuditError
from medfl.results.canonical import canonical_json
from medfl.results.metrics import ResultModel
from medfl.results.report import NOT_STATED


class Decision(ResultModel):
    """A release, or a refusal, of what a report is about; what nobody stated says so.

    Attributes
    ----------
    decision : str
    report_sha256 : str
        Of the canonical JSON of the report that was read.
    officer : str
        Name or role.
    decided : str
        Day, UTC.
    recipient, means : str
        Who gets it, and what they could use to find somebody.
    legal_basis, dpia_reference, retention : str
    expires : str
        Last day of validity, "YYYY-MM-DD"; "not stated" never ends.
    note : str
    """

    schema_: Literal["medfl/release-decision/1"] = Field(default="medfl/release-decision/1", alias="schema")
    decision: Literal["release", "refuse"]
    report_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    officer: str = Field(min_length=1)
    decided: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    recipient: str = NOT_STATED
    means: str = NOT_STATED
    legal_basis: str = NOT_STATED
    dpia_reference: str = NOT_STATED
    retention: str = NOT_STATED
    expires: str = Field(default=NOT_STATED, pattern=r"^(\d{4}-\d{2}-\d{2}|not stated)$")
    note: str = ""

    @field_validator("decided", "expires")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        if text != NOT_STATED:
            date.fromisoformat(text)
        return text


def decision_bytes(decision: Decision) -> bytes:
    """Return the canonical JSON, which is what is signed."""
    value: dict[str, Any] = decision.model_dump(mode="json", by_alias=True)
    return canonical_json(value)


def parse_decision(content: bytes) -> Decision:
    """Return the decision in a file.

    Raises
    ------
    AuditError
        If it is none.
    """
    try:
        json.loads(content)
        return Decision.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AuditError(f"decision.json must follow medfl/release-decision/1; '{place}': {first['msg']}.") from error
    except ValueError as error:
        raise AuditError("decision.json must hold JSON; it does not.") from error
