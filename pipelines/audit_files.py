"""The files of an audit: written and signed, read and checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medfl.audit.field_digests import changed_fields, field_digests
from medfl.audit.figures import Figure, cmc_figure, intervals_figure, roc_figure
from medfl.audit.gate import SignedBy
from medfl.audit.render import render_html, render_pdf
from medfl.audit.signature import DECISION, REPORT, SigningKey, signer_of, verify
from medfl.errors import AuditError
from medfl.results.audit_store import AuditStore, parse_report, report_bytes, report_digest, report_value
from medfl.results.canonical import canonical_json
from medfl.results.decision import Decision, decision_bytes, parse_decision
from medfl.results.report import AuditReport

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = ("en", "de")


@dataclass(frozen=True)
class Written:
    """Where the report lies; `missing` says why a rendering is not there."""

    files: tuple[Path, ...]
    missing: tuple[str, ...]


def write_report(run: Path, report: AuditReport, key: SigningKey) -> Written:
    """Sign the report, then render it in every language; a rendering that cannot be made does not stop the others."""
    store = AuditStore.of(run)
    content, fields = report_bytes(report), canonical_json(field_digests(report_value(report)))
    for path in (store.decision, store.decision_signature):
        path.unlink(missing_ok=True)  # it was about another report
    store.write(store.fields, fields)
    store.write(store.fields_signature, key.sign(fields, REPORT).encode())
    store.write(store.report, content)
    store.write(store.signature, key.sign(content, REPORT).encode())
    store.write(store.tool_key, (key.public_line() + "\n").encode())
    files, missing = [store.report, store.signature], []
    figures = report_figures(report)
    for language in LANGUAGES:
        page = render_html(report, language, figures)
        store.write(store.page(language), page.encode())
        files.append(store.page(language))
        try:
            store.write(store.print(language), render_pdf(page))
            files.append(store.print(language))
        except AuditError as error:
            missing.append(str(error))
    return Written(tuple(files), tuple(dict.fromkeys(missing)))


def report_figures(report: AuditReport) -> dict[str, Figure]:
    """Return the figures of a report by name."""
    roc = {curve.name: (curve.x, curve.y) for curve in report.curves if curve.kind == "roc"}
    cmc = {curve.name: (curve.x, curve.y) for curve in report.curves if curve.kind == "cmc"}
    figures = {"intervals": intervals_figure([a for family in report.families for a in family.attacks])}
    if roc:
        figures["roc"] = roc_figure(roc)
    if cmc:
        figures["cmc"] = cmc_figure(cmc)
    return figures


def read_signed(place: Path) -> SignedBy:
    """Return the report at a place (see `AuditStore.at`) and the decision about it, with all signatures checked.

    Raises
    ------
    AuditError
        If something is missing, unsigned or was changed; the message names the fields that were.
    """
    store = AuditStore.at(place)
    content, tool = _checked_report(store)
    report = parse_report(content)
    if not store.decision.exists():
        return SignedBy(report, report_digest(report), tool)
    text, signature = _read(store.decision), _read(store.decision_signature).decode("utf-8", "replace")
    decision = parse_decision(text)
    officer = signer_of(signature)
    verify(text, signature, DECISION, officer)
    return SignedBy(report, report_digest(report), tool, decision, officer)


def _checked_report(store: AuditStore) -> tuple[bytes, str]:
    """Return what was signed, and the public key; where the digests of the fields are intact, an edit is named."""
    content = _read(store.report)
    signature = _read(store.signature).decode("utf-8", "replace")
    tool = signer_of(signature)
    try:
        verify(content, signature, REPORT, tool)
    except AuditError as error:
        raise AuditError(f"report.json is not what was signed. {_changes(store, content, tool)}") from error
    return content, tool


def write_decision(run: Path, decision: Decision, key: SigningKey) -> None:
    """Sign a decision and put it beside the report."""
    store = AuditStore.of(run)
    content = decision_bytes(decision)
    store.write(store.decision, content)
    store.write(store.decision_signature, key.sign(content, DECISION).encode())


def _changes(store: AuditStore, content: bytes, tool: str) -> str:
    try:
        fields = _read(store.fields)
        verify(fields, _read(store.fields_signature).decode("utf-8", "replace"), REPORT, tool)
        changed = changed_fields(json.loads(content), json.loads(fields))
    except (AuditError, ValueError):
        return "Which fields changed cannot be told."
    return f"Changed fields: {'; '.join(changed)}." if changed else "Only its spelling changed, no field."


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuditError(f"{path.name} must be a readable file beside the report; it is not.") from error
