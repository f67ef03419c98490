import json
import os
import stat
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from medfl.errors import ConfigError, PlanNotApprovedError
from medfl.governance.approvals import Approval, Approvals
from tests.governance.plans import a_plan, an_egress

NOW = datetime(2027, 1, 5, 12, tzinfo=UTC)
TODAY = NOW.date()
BUNDLE = "ab" * 32


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path)


def approved(approvals: Approvals, **changes: object) -> Approval:
    values: dict[str, object] = {"bundle_sha256": BUNDLE, "egress": an_egress(), "by": "Jo Admin", "now": NOW}
    return approvals.approve(a_plan(), **(values | changes))  # type: ignore[arg-type]


def reason_of(approvals: Approvals, today: date = TODAY) -> str:
    reasons = set()
    for ask, digest in ((approvals.of_plan, a_plan().sha256()), (approvals.of_bundle, BUNDLE)):
        with pytest.raises(PlanNotApprovedError) as caught:
            ask(digest, today)
        reasons.add(caught.value.reason)
    assert len(reasons) == 1
    return reasons.pop()


def test_nothing_is_approved_by_default(approvals: Approvals) -> None:
    assert approvals.all() == ()
    assert reason_of(approvals) == "not_approved"


def test_an_approved_plan_is_found_by_its_hash_and_by_its_bundle(approvals: Approvals) -> None:
    approval = approved(approvals)
    assert approvals.of_plan(a_plan().sha256(), TODAY) == approval
    assert approvals.of_bundle(BUNDLE, TODAY) == approval
    assert approvals.all() == (approval,)
    assert approval.expires == a_plan().expires


def test_another_plan_or_bundle_stays_unapproved(approvals: Approvals) -> None:
    approved(approvals)
    for ask, digest in ((approvals.of_plan, a_plan(purpose="another").sha256()), (approvals.of_bundle, "cd" * 32)):
        with pytest.raises(PlanNotApprovedError) as caught:
            ask(digest, TODAY)
        assert caught.value.reason == "not_approved"


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 63, "/" * 64, "0" * 63 + "\x00"])
def test_what_is_no_hash_is_never_a_file_name(approvals: Approvals, name: str) -> None:
    with pytest.raises(PlanNotApprovedError):
        approvals.of_plan(name, TODAY)


def test_a_revoked_plan_is_refused_until_it_is_approved_again(approvals: Approvals) -> None:
    approved(approvals)
    revoked = approvals.revoke(a_plan().sha256(), "Jo Admin", NOW)
    assert (revoked.revoked_at, revoked.revoked_by) == (NOW, "Jo Admin")
    assert reason_of(approvals) == "revoked"
    with pytest.raises(PlanNotApprovedError, match="already"):
        approvals.revoke(a_plan().sha256(), "Jo Admin", NOW)
    approved(approvals)
    assert approvals.of_bundle(BUNDLE, TODAY).revoked_at is None


def test_an_approval_ends_with_its_last_day(approvals: Approvals) -> None:
    approved(approvals, expires=date(2027, 2, 1))
    assert approvals.of_bundle(BUNDLE, date(2027, 2, 1)).expires == date(2027, 2, 1)
    assert reason_of(approvals, date(2027, 2, 2)) == "expired"


def test_an_approval_never_outlasts_its_plan(approvals: Approvals) -> None:
    with pytest.raises(ConfigError, match="outlast"):
        approved(approvals, expires=date(2028, 1, 1))
    with pytest.raises(PlanNotApprovedError, match="before its end"):
        approved(approvals, expires=date(2027, 1, 4))
    assert approvals.all() == ()


@pytest.mark.parametrize("change", [{"by": ""}, {"by": "a/b"}, {"by": "x" * 65}, {"bundle_sha256": "AB" * 32}])
def test_an_approval_needs_a_name_and_a_hash(approvals: Approvals, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="name and a bundle"):
        approved(approvals, **change)


def test_a_revocation_needs_a_name(approvals: Approvals) -> None:
    approved(approvals)
    with pytest.raises(ConfigError, match="name"):
        approvals.revoke(a_plan().sha256(), "a/b", NOW)


def test_files_are_for_their_owner_only(approvals: Approvals, tmp_path: Path) -> None:
    approved(approvals)
    (path,) = (tmp_path / "approvals").iterdir()
    assert path.name == f"{a_plan().sha256()}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["minimum_subjects", "expires", "bundle_sha256", "approved_by", "settings"])
def test_an_edited_approval_counts_as_none(approvals: Approvals, tmp_path: Path, place: str) -> None:
    approved(approvals)
    (path,) = (tmp_path / "approvals").iterdir()
    stored = json.loads(path.read_text())
    edited = {
        "minimum_subjects": lambda a: a["egress"]["kinds"][0].update(minimum_subjects=0),
        "expires": lambda a: a.update(expires="2027-06-29"),
        "bundle_sha256": lambda a: a.update(bundle_sha256="cd" * 32),
        "approved_by": lambda a: a.update(approved_by="Somebody Else"),
        "settings": lambda a: a["plan"].update(settings="name: demo\nseed: 1\n"),
    }
    edited[place](stored["approval"])
    path.write_text(json.dumps(stored))
    with pytest.raises(PlanNotApprovedError) as caught:
        approvals.of_plan(a_plan().sha256(), TODAY)
    assert caught.value.reason == "changed"
    with pytest.raises(PlanNotApprovedError):
        approvals.of_bundle(BUNDLE, TODAY)
    assert approvals.all() == ()


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_an_approval_that_others_can_write_counts_as_none(approvals: Approvals, tmp_path: Path, mode: int) -> None:
    approved(approvals)
    (path,) = (tmp_path / "approvals").iterdir()
    path.chmod(mode)
    with pytest.raises(PlanNotApprovedError) as caught:
        approvals.of_plan(a_plan().sha256(), TODAY)
    assert caught.value.reason == "changed"


def test_a_renamed_approval_and_a_link_count_as_none(approvals: Approvals, tmp_path: Path) -> None:
    approved(approvals)
    (path,) = (tmp_path / "approvals").iterdir()
    other = path.with_name(f"{'0' * 64}.json")
    os.link(path, other)
    link = path.with_name(f"{'1' * 64}.json")
    link.symlink_to(path)
    for name in ("0" * 64, "1" * 64):
        with pytest.raises(PlanNotApprovedError) as caught:
            approvals.of_plan(name, TODAY)
        assert caught.value.reason == "changed"


def test_a_decision_counts_from_the_next_question_on(tmp_path: Path) -> None:
    one, other = Approvals(tmp_path), Approvals(tmp_path)
    approved(one)
    assert other.of_bundle(BUNDLE, TODAY)
    one.revoke(a_plan().sha256(), "Jo Admin", NOW)
    assert reason_of(other) == "revoked"
