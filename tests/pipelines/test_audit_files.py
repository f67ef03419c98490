"""Pictures beside a report, and its figures."""

from pathlib import Path

import numpy as np
import pytest

import medfl
from medfl.audit.findings import Findings
from medfl.audit.picture_digests import picture_digest
from medfl.audit.pictures import picture_of
from medfl.audit.signature import SigningKey
from medfl.errors import AuditError
from medfl.results.audit_store import AuditStore
from medfl.results.report import AuditReport, Curve, Tool
from pipelines.audit_files import kept_pictures, part_key, read_signed, report_figures, write_report
from tests.audit.reports import attack, family, report

KEY = SigningKey.generate("a test")
PICTURE = picture_of("decoder", "The best of 60.", [("original", np.eye(9)), ("rebuilt", 1 - np.eye(9))], (0.0, 1.0))
REPORT = report().model_copy(
    update={"pictures": (picture_digest(PICTURE),), "tool": Tool(version=medfl.__version__, python="3.11.7")}
)


def kept(run: Path, given: AuditReport) -> None:
    """Leave the picture where an audit keeps its finished parts."""
    key = part_key(given.scope.release_sha256, given.policy_sha256, given.budget, given.seed, given.tool.version)
    findings = Findings(outcome=given.families[0], pictures=(PICTURE,))
    AuditStore.of(run).write_part("re-identification", key, findings.model_dump(mode="json"))


def test_pictures_are_found_where_the_audit_kept_them_and_checked_against_the_report(tmp_path: Path) -> None:
    kept(tmp_path, REPORT)
    assert kept_pictures(tmp_path, REPORT) == (PICTURE,)
    assert kept_pictures(tmp_path, report()) == ()
    other = REPORT.model_copy(update={"seed": 1})
    with pytest.raises(AuditError, match="'decoder' does not"):
        kept_pictures(tmp_path, other)


def test_pages_show_a_patient_only_when_handed_the_picture_and_the_signed_file_never_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.audit_files.render_pdf", lambda page: page.encode())  # tests/audit prints
    store = AuditStore.of(tmp_path)
    write_report(tmp_path, REPORT, KEY)
    assert not any("<img" in store.page(language).read_text() for language in ("en", "de"))
    write_report(tmp_path, REPORT, KEY, pictures=(PICTURE,))
    assert store.print("de").read_bytes().count(b"<img") == 2
    assert all(store.page(language).read_text().count("<img") == 2 for language in ("en", "de"))
    assert PICTURE.panels[0][1].encode() not in store.report.read_bytes()
    assert read_signed(tmp_path).report == REPORT


def test_a_report_is_not_written_with_a_picture_of_another(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="one that the report names"):
        write_report(tmp_path, report(), KEY, pictures=(PICTURE,))
    assert not AuditStore.of(tmp_path).report.exists()


def test_a_report_has_a_figure_for_each_metric_and_kind_of_curve() -> None:
    curves = tuple(
        Curve.model_validate({"name": "lda", "kind": kind, "x": (1.0, 4.0), "y": (0.5, 0.9)})
        for kind in ("roc", "cmc", "anchors")
    )
    named = attack(0.2, metric="rank_1", chance=0.01)
    scored = attack(0.4, metric="findings", family="key hygiene")
    given = report().model_copy(
        update={
            "curves": curves,
            "families": (family("re-identification", attack(0.6), named), family("key hygiene", scored)),
        }
    )
    figures = report_figures(given)
    assert list(figures) == ["intervals auc", "intervals rank_1", "roc", "cmc", "anchors"]
    assert "headline, margin 0.55" in figures["intervals auc"].alt
    assert "headline, margin 0.09" in figures["intervals rank_1"].alt
