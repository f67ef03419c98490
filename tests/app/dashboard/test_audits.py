from pathlib import Path

import pytest
from audit.reports import attack, report

from app.dashboard.audits import arms_beside, check_signature
from medfl.audit.signature import SigningKey
from medfl.results.arms import ArmResult, ArmTable, Utility
from medfl.results.decision import Decision
from pipelines.audit_files import write_decision, write_report

UTILITY = Utility(name="auroc", value=0.9, ci_low=0.85, ci_high=0.95, n=100)


def test_a_signature_names_its_key_and_the_decision_its_officer(tmp_path: Path) -> None:
    key = SigningKey.generate("tool")
    write_report(tmp_path, report(), key)
    signed = check_signature(tmp_path)
    assert (signed.is_whole, signed.signer.startswith("SHA256:"), signed.decided) == (True, True, "none")
    from medfl.results.audit_store import report_digest

    decision = Decision(
        decision="refuse", report_sha256=report_digest(report()), officer="J. Doe", decided="2026-11-25"
    )
    write_decision(tmp_path, decision, SigningKey.generate("officer"))
    signed = check_signature(tmp_path)
    assert (signed.decided, signed.officer, signed.day) == ("refuse", "J. Doe", "2026-11-25")


@pytest.mark.parametrize("name", ["report.json", "report.json.sig"])
def test_a_change_or_a_missing_file_breaks_the_signature(tmp_path: Path, name: str) -> None:
    write_report(tmp_path, report(), SigningKey.generate("tool"))
    path = tmp_path / "audit" / name
    path.write_bytes(path.read_bytes() + b" ")
    changed = check_signature(tmp_path).is_whole
    path.unlink()
    assert not check_signature(tmp_path).is_whole
    assert not changed or name == "report.json.sig"


def test_protections_of_a_comparison_stand_side_by_side(tmp_path: Path) -> None:
    rows = tuple(
        ArmResult(
            arm=arm,
            seed=0,
            channels=4,
            utility=UTILITY,
            attacks=(attack(leak),),
            bytes_up=1,
            seconds=1,
            milliseconds_per_study=1,
        )
        for arm, leak in (("none", 0.9), ("knt", 0.6))
    )
    (tmp_path / "arms.json").write_text(ArmTable(config="x", rows=rows).model_dump_json())
    found = arms_beside(tmp_path / "run", ())
    assert found is not None
    assert [(one.name, one.utility, one.leakage) for one in found.points] == [("none", 0.9, 0.9), ("knt", 0.9, 0.6)]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"config": 1}', b"[" * 10_000])
def test_a_comparison_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "arms.json").write_bytes(content)
    assert arms_beside(tmp_path / "run", (tmp_path / "other",)) is None
