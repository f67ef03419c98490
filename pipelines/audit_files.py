"""The files of an audit: written and signed, read and checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from medfl.audit.field_digests import changed_fields, field_digests
from medfl.audit.figures import Figure, Row, anchors_figure, cmc_figure, intervals_figure, roc_figure
from medfl.audit.findings import Findings
from medfl.audit.gate import SignedBy
from medfl.audit.picture_digests import check_pictures, picture_digest
from medfl.audit.pictures import Picture
from medfl.audit.render import render_html, render_pdf
from medfl.audit.signature import DECISION, REPORT, SigningKey, signer_of, verify
from medfl.audit.wording import Language
from medfl.errors import AuditError
from medfl.governance.policy import AuditPolicy, limit_of, question_of
from medfl.results.audit_store import AuditStore, parse_report, report_bytes, report_digest, report_value
from medfl.results.canonical import canonical_json, sha256
from medfl.results.decision import Decision, decision_bytes, parse_decision
from medfl.results.report import AuditReport, Budget, FamilyOutcome

LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True)
class Written:
    """Where the report lies; `missing` says why a rendering is not there."""

    files: tuple[Path, ...]
    missing: tuple[str, ...]


def write_report(run: Path, report: AuditReport, key: SigningKey, *, pictures: Sequence[Picture] = ()) -> Written:
    """Sign the report, then render it in every language; a rendering that cannot be made does not stop the others.

    Parameters
    ----------
    run : Path
    report : AuditReport
    key : SigningKey
    pictures : sequence of Picture
        Of the report; they show a patient, and pages with them stay at the site.

    Raises
    ------
    AuditError
        If a picture is not one that the report names.
    """
    check_pictures(pictures, report.pictures)
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
        page = render_html(report, language, figures, pictures)
        store.write(store.page(language), page.encode())
        files.append(store.page(language))
        try:
            store.write(store.print(language), render_pdf(page))
            files.append(store.print(language))
        except AuditError as error:
            missing.append(str(error))
    return Written(tuple(files), tuple(dict.fromkeys(missing)))


def part_key(release_sha256: str, policy_sha256: str, budget: Budget, seed: int, version: str) -> str:
    """Return what a kept part of an audit depends on, as one digest."""
    return sha256(
        {
            "release": release_sha256,
            "policy": policy_sha256,
            "budget": budget,
            "seed": seed,
            "version": version,
        }
    )


def kept_pictures(run: Path, report: AuditReport) -> tuple[Picture, ...]:
    """Return the pictures that a report names, from the parts that an audit keeps beside it.

    Raises
    ------
    AuditError
        If one is not there any more, or was changed.
    """
    store = AuditStore.of(run)
    key = part_key(report.scope.release_sha256, report.policy_sha256, report.budget, report.seed, report.tool.version)
    parts = [store.read_part(family.family, key) for family in report.families]
    kept = [picture for part in parts if part is not None for picture in Findings.model_validate(part).pictures]
    there = {picture_digest(picture).sha256: picture for picture in kept}
    gone = [one.name for one in report.pictures if one.sha256 not in there]
    if gone:
        raise AuditError(f"Pictures of a report must lie in its audit folder; '{gone[0]}' does not. Audit again.")
    return tuple(there[one.sha256] for one in report.pictures)


def report_figures(report: AuditReport) -> dict[str, Figure]:
    """Return the figures of a report by name.

    Raises
    ------
    AuditError
        If the extra `report` is not installed.
    """
    policy = AuditPolicy.model_validate(report.policy)
    rows = [row for family in report.families for row in _rows(family, policy)]
    roc = {curve.name: (curve.x, curve.y) for curve in report.curves if curve.kind == "roc"}
    cmc = {curve.name: (curve.x, curve.y) for curve in report.curves if curve.kind == "cmc"}
    anchors = [curve for curve in report.curves if curve.kind == "anchors"]
    figures = {
        f"intervals {metric}": intervals_figure(rows, metric)
        for metric in ("auc", "rank_1")
        if any(row.attack.metric == metric for row in rows)
    }
    if roc:
        figures["roc"] = roc_figure(roc)
    if cmc:
        figures["cmc"] = cmc_figure(cmc)
    if anchors:
        figures["anchors"] = anchors_figure(anchors)
    return figures


def _rows(family: FamilyOutcome, policy: AuditPolicy) -> list[Row]:
    """Return the attacks of one family with their margins; an attack that no answer rests on has none."""
    rows = []
    for place, attack in enumerate(family.attacks):
        judged = place in family.headline and question_of(attack.family, attack.metric) is not None
        limit = limit_of(policy, attack.family, attack.metric, attack.chance) if judged else None
        rows.append(Row(attack, is_headline=place in family.headline, limit=limit))
    return rows


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
