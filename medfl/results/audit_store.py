"""File names below `RUN/audit/`."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from medfl.errors import AuditError
from medfl.results.atomic import write_bytes, write_text
from medfl.results.canonical import canonical_json, sha256
from medfl.results.report import SCHEMA, AuditReport


class AuditStore:
    """Reads and writes one audit; every write is atomic.

    Parameters
    ----------
    folder : Path
        `RUN/audit`, or wherever somebody copied it to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report = self.folder / "report.json"
        self.signature = self.folder / "report.json.sig"
        self.fields = self.folder / "fields.json"
        self.fields_signature = self.folder / "fields.json.sig"
        self.tool_key = self.folder / "tool.pub"
        self.decision = self.folder / "decision.json"
        self.decision_signature = self.folder / "decision.json.sig"

    @classmethod
    def of(cls, run: Path) -> Self:
        """Return the audit of a run folder."""
        return cls(run / "audit")

    @classmethod
    def at(cls, place: Path) -> Self:
        """Return the audit that a run folder, an audit's folder or a report in one belongs to."""
        if place.is_file():
            return cls(place.parent)
        return cls(place) if (place / "report.json").exists() else cls.of(place)

    def page(self, language: str) -> Path:
        """Return the place of the rendered page."""
        return self.folder / f"report.{language}.html"

    def print(self, language: str) -> Path:
        """Return the place of the printed report."""
        return self.folder / f"report.{language}.pdf"

    def write(self, path: Path, content: bytes) -> None:
        """Write one file of the audit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)

    def write_part(self, name: str, key: str, value: dict[str, Any]) -> None:
        """Keep one finished family, so that an interrupted audit goes on."""
        folder = self.folder / "families"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name.replace(' ', '-')}.json", json.dumps({"key": key, "value": value}) + "\n")

    def read_part(self, name: str, key: str) -> dict[str, Any] | None:
        """Return a finished family; None where there is none, or one of another release, policy, budget or seed."""
        path = self.folder / "families" / f"{name.replace(' ', '-')}.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        found = kept.get("value") if isinstance(kept, dict) and kept.get("key") == key else None
        return found if isinstance(found, dict) else None


def report_value(report: AuditReport) -> dict[str, Any]:
    """Return the report as plain JSON; infinities are written as words."""
    value = json.loads(report.model_dump_json(by_alias=True))
    assert isinstance(value, dict)
    return value


def report_bytes(report: AuditReport) -> bytes:
    """Return the canonical JSON, which is what is signed."""
    return canonical_json(report_value(report))


def report_digest(report: AuditReport) -> str:
    """Return the SHA-256 of the canonical JSON."""
    return sha256(report_value(report))


def parse_report(content: bytes) -> AuditReport:
    """Return the report in a file.

    Raises
    ------
    AuditError
        If it is no report, or one of a schema that this version does not know.
    """
    try:
        value = json.loads(content)
    except ValueError as error:
        raise AuditError("report.json must hold JSON; it does not.") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        raise AuditError(f"report.json must follow {SCHEMA}, found {schema!r}. Read it with the version that wrote it.")
    try:
        return AuditReport.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AuditError(f"report.json must follow {SCHEMA}; '{place}': {first['msg']}.") from error
