from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from app.site.purge import Purged, purge, purge_expired
from app.site.retention import overdue
from medfl.errors import AuditLogError, ConfigError, PlanNotApprovedError
from medfl.governance.approvals import Approval, Approvals
from medfl.governance.audit_log import AuditLog
from pipelines.site_answers import plan_number
from tests.app.site.conftest import make_site
from tests.governance.plans import a_plan, an_egress

NOW = datetime(2027, 1, 5, 12, tzinfo=UTC)
LATER = datetime(2027, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (make_site(tmp_path / "state", tmp_path / "manifest.csv") / "cache").mkdir()
    return tmp_path / "state"


def approved(state: Path, **changes: Any) -> Approval:
    plan = a_plan(**changes)
    return Approvals(state).approve(plan, bundle_sha256="ab" * 32, egress=an_egress(), by="Jo Admin", now=NOW)


def left_by(state: Path, approval: Approval) -> list[Path]:
    """Write what the executor and a run leave at a site."""
    folders = [
        state / "runs" / approval.plan_sha256[:16],
        state / "runs" / f"{approval.plan.name}-{plan_number(approval.plan.settings)}",
    ]
    for folder in folders:
        (folder / "released").mkdir(parents=True)
        (folder / "released" / "round-0001.safetensors").write_bytes(b"x" * 100)
    (state / "cache" / "images.safetensors").write_bytes(b"x")
    return folders


def purges(state: Path) -> list[tuple[str, str, str]]:
    entries = AuditLog(state / "audit.jsonl").entries()
    return [(one.who, one.plan_sha256, one.verdict) for one in entries if one.operation == "site.purge"]


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_what_runs_of_a_plan_left_goes_and_the_records_of_it_stay(state: Path, end: str) -> None:
    approval = approved(state)
    folders = left_by(state, approval)
    other = approved(state, settings="name: other\n", expires=date(2028, 1, 1))
    others = left_by(state, other)
    if end == "revoked":
        Approvals(state).revoke(approval.plan_sha256, "Jo Admin", NOW)
    (state / "ledger" / "ledger.db").write_bytes(b"books")
    done = purge(state, approval.plan_sha256[:12], by="Jo Admin", now=NOW if end == "revoked" else LATER)
    assert done == Purged("demo", approval.plan_sha256, folders=2, files=2, nbytes=200, is_shared=False)
    assert not any(folder.exists() for folder in folders)
    assert all(folder.exists() for folder in others)
    assert (state / "cache" / "images.safetensors").exists()
    assert (state / "ledger" / "ledger.db").read_bytes() == b"books"
    assert len(Approvals(state).all()) == 2
    assert purges(state) == [("Jo Admin", approval.plan_sha256, "ok")]


def test_with_the_last_plan_prepared_images_go_as_well(state: Path) -> None:
    approval = approved(state)
    left_by(state, approval)
    purge(state, approval.plan_sha256, by="Jo Admin", now=LATER)
    assert list((state / "cache").iterdir()) == list((state / "runs").iterdir()) == []


def test_a_plan_that_is_approved_cannot_be_purged(state: Path) -> None:
    approval = approved(state)
    folders = left_by(state, approval)
    with pytest.raises(PlanNotApprovedError, match="Revoke it first"):
        purge(state, approval.plan_sha256, by="Jo Admin", now=NOW)
    assert all(folder.exists() for folder in folders)
    assert purges(state) == []


@pytest.mark.parametrize(("sha256", "error"), [("0" * 64, PlanNotApprovedError), ("../../etc", ConfigError)])
def test_a_hash_that_nothing_was_approved_by_deletes_nothing(state: Path, sha256: str, error: type[Exception]) -> None:
    folders = left_by(state, approved(state))
    with pytest.raises(error):
        purge(state, sha256, by="Jo Admin", now=LATER)
    assert all(folder.exists() for folder in folders)


def test_a_run_folder_that_an_approved_plan_uses_as_well_stays(state: Path) -> None:
    first, second = approved(state), approved(state, purpose="the same settings, another purpose")
    own, run = left_by(state, first)
    Approvals(state).revoke(first.plan_sha256, "Jo Admin", NOW)
    assert purge(state, first.plan_sha256, by="Jo Admin", now=NOW).is_shared
    assert not own.exists()
    assert run.exists()
    Approvals(state).revoke(second.plan_sha256, "Jo Admin", NOW)
    purge(state, second.plan_sha256, by="Jo Admin", now=NOW)
    assert not run.exists()


def test_what_outlived_its_retention_is_purged_and_nothing_else(state: Path) -> None:
    old = approved(state, expires=date(2027, 1, 10))
    new = approved(state, settings="name: other\n", expires=date(2027, 2, 10))
    for one in (old, new):
        left_by(state, one)
    last = datetime(2027, 7, 9, tzinfo=UTC)  # 180 days after the 10th of January
    assert overdue(state, last.date()) == purge_expired(state, by="Jo Admin", now=last) == ()
    after = datetime(2027, 7, 10, tzinfo=UTC)
    assert overdue(state, after.date()) == (old,)
    assert [one.plan_sha256 for one in purge_expired(state, by="Jo Admin", now=after)] == [old.plan_sha256]
    assert overdue(state, after.date()) == purge_expired(state, by="Jo Admin", now=after) == ()
    assert purges(state) == [("Jo Admin", old.plan_sha256, "ok")]


def test_a_revocation_begins_the_time_of_retention(state: Path) -> None:
    approval = approved(state)
    left_by(state, approval)
    Approvals(state).revoke(approval.plan_sha256, "Jo Admin", NOW)
    assert overdue(state, date(2027, 7, 4)) == ()
    assert overdue(state, date(2027, 7, 5))


def test_nothing_is_deleted_that_cannot_be_logged(state: Path) -> None:
    approval = approved(state)
    folders = left_by(state, approval)
    (state / "audit.jsonl").unlink()
    (state / "audit.jsonl").mkdir()
    with pytest.raises(AuditLogError):
        purge(state, approval.plan_sha256, by="Jo Admin", now=LATER)
    assert all(folder.exists() for folder in folders)


def test_what_a_link_leads_to_is_never_deleted(state: Path, tmp_path: Path) -> None:
    approval = approved(state)
    own, run = left_by(state, approval)
    elsewhere = tmp_path / "elsewhere"
    run.rename(elsewhere)
    run.symlink_to(elsewhere)
    (own / "inside").symlink_to(elsewhere)
    purge(state, approval.plan_sha256, by="Jo Admin", now=LATER)
    assert not own.exists()
    assert (elsewhere / "released" / "round-0001.safetensors").exists()


def test_a_failure_is_named_and_logged(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = approved(state)
    left_by(state, approval)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("app.site.purge.shutil.rmtree", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        purge(state, approval.plan_sha256, by="Jo Admin", now=LATER)
    assert [verdict for _, _, verdict in purges(state)] == ["ok", "failed"]
