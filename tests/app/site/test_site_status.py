import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from app.cli.display_site import status_facts, status_lines
from app.site.pause import pause
from app.site.status import SiteState, site_state
from app.supervision.running import ProgramFacts, Running, only_one, write_running
from medfl.governance.approvals import Approvals
from medfl.governance.audit_log import AuditLog
from medfl.governance.egress import Egress
from tests.app.site.conftest import NOW, join
from tests.governance.plans import a_plan

TODAY = date(2026, 5, 4)


def lines(found: SiteState) -> str:
    json.dumps(status_facts(found), allow_nan=False)
    return "\n".join(status_lines(found))


def test_a_new_site_says_what_comes_next(state: Path) -> None:
    said = lines(site_state(state, TODAY))
    for part in (
        "medfl site enroll",
        "medfl site run",
        "refuses every run",
        "0 replies",
        "every line as it was written",
    ):
        assert part in said
    assert "Problem" not in said


def test_a_site_says_its_hub_its_plans_what_left_and_what_was_refused(state: Path, tmp_path: Path) -> None:
    join(state, tmp_path)
    plan = a_plan()
    Approvals(state).approve(
        plan, bundle_sha256="b" * 64, egress=Egress(kinds=()), by="Jo Admin", now=NOW, expires=plan.expires
    )
    log = AuditLog(state / "audit.jsonl")
    log.append("reply.send", who="medfl", plan_sha256=plan.sha256(), round=3, bytes_out=1234567, verdict="sent")
    log.append("message.refuse", who="medfl", verdict="refused", reason="not_approved")
    found = site_state(state, TODAY)
    said = lines(found)
    for part in ("hub.example.org:8443", plan.sha256()[:12], "1,234,567 bytes", "round 3", "not_approved"):
        assert part in said
    assert found.hub is not None
    assert found.hub.fingerprint in said


def test_a_paused_site_and_a_program_that_is_not_at_work_are_named(state: Path) -> None:
    pause(state, by="Jo Admin", now=NOW)
    with only_one(state):
        program = ProgramFacts(name="supernode", number=None, restarts=2, last_exit=1)
        write_running(
            state,
            Running(number=1, version="9.9", since=NOW, phase="running", problem="It ended.", programs=(program,)),
        )
        said = lines(site_state(state, TODAY))
    assert "PAUSED by Jo Admin" in said
    assert "Not at work: supernode" in said
    assert "Problem: It ended." in said


def _edit_log(state: Path) -> None:
    path = state / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Jo Admin", b"Jo Other"))


@pytest.mark.parametrize(
    ("damage", "part", "said"),
    [
        (_edit_log, "", "medfl log verify"),
        (lambda state: (state / "exclude.json").write_text("{"), "withdrawn", "Problem"),
        (lambda state: (state / "hub" / "enrolment.json").write_text("{}"), "hub", "must follow"),
        (lambda state: (state / "hub" / "ca.crt").write_text(""), "hub", "Enroll again"),
    ],
    ids=["log", "exclude list", "answer", "certificate"],
)
def test_a_damaged_part_is_named_and_the_rest_is_shown(
    state: Path, tmp_path: Path, damage: Callable[[Path], object], part: str, said: str
) -> None:
    join(state, tmp_path)
    damage(state)
    found = site_state(state, TODAY)
    assert said in lines(found)
    assert found.problems
    if part:
        assert getattr(found, part) is None
