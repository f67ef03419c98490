from dataclasses import replace
from datetime import date

import pytest

from medfl.audit.gate import SignedBy, objections
from medfl.governance.policy import AuditPolicy
from medfl.results.audit_store import report_digest
from medfl.results.canaries import CanaryCheck
from medfl.results.decision import Decision
from tests.audit.reports import report

OFFICER = "ssh-ed25519 AAAAofficer"
TODAY = date(2026, 11, 25)


def signed(status: str = "below margin", officer: str = OFFICER, **changes: object) -> SignedBy:
    made = report(status=status)
    facts = {"decision": "release", "report_sha256": report_digest(made), "officer": "DPO", "decided": "2026-11-25"}
    return SignedBy(
        made, report_digest(made), "ssh-ed25519 AAAAtool", Decision.model_validate(facts | changes), officer
    )


def policy(**changes: object) -> AuditPolicy:
    return AuditPolicy.model_validate({"officers": [f"{OFFICER} dpo@hospital"]} | changes)


def test_a_report_below_every_margin_with_the_officers_release_opens_the_gate() -> None:
    assert objections(signed(), policy(), TODAY) == ()


@pytest.mark.parametrize("status", ["above margin", "inconclusive", "invalid"])
def test_any_other_verdict_keeps_it_shut(status: str) -> None:
    assert len(objections(signed(status), policy(), TODAY)) == 3


def test_a_policy_can_allow_inconclusive_but_never_invalid() -> None:
    allowed = {name: ["below margin", "inconclusive"] for name in ("singling out", "linkability", "inference")}
    assert objections(signed("inconclusive"), policy(allowed=allowed), TODAY) == ()
    with pytest.raises(ValueError, match="never invalid"):
        policy(allowed={name: ["invalid"] for name in allowed})


def test_a_missing_decision_keeps_it_shut() -> None:
    bare = SignedBy(report(), report_digest(report()), "ssh-ed25519 AAAAtool")
    assert any("decision" in reason for reason in objections(bare, policy(), TODAY))
    assert objections(bare, policy(decision="optional"), TODAY) == ()


def test_a_policy_that_names_no_officer_opens_for_nobody() -> None:
    assert any("no officer" in reason for reason in objections(signed(), AuditPolicy(), TODAY))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"decision": "refuse"}, "refused"),
        ({"report_sha256": "0" * 64}, "another report"),
        ({"expires": "2026-11-24"}, "expired"),
    ],
)
def test_a_decision_that_refuses_expired_or_is_about_another_report_keeps_it_shut(
    changes: dict[str, object], word: str
) -> None:
    assert any(word in reason for reason in objections(signed(**changes), policy(), TODAY))


def test_a_stranger_cannot_decide() -> None:
    assert any("officer" in reason for reason in objections(signed(officer="ssh-ed25519 AAAAx"), policy(), TODAY))


@pytest.mark.parametrize(
    "changes", [{"margins": {"verification_auc": 0.52}}, {"gallery": 50}, {"positive_control_auc": 0.8}]
)
def test_a_report_made_with_another_policy_is_refused(changes: dict[str, object]) -> None:
    assert any("other" in reason for reason in objections(signed(), policy(**changes), TODAY))


def test_a_report_of_an_unknown_tool_is_refused_where_tools_are_named() -> None:
    assert any("tool" in reason for reason in objections(signed(), policy(tools=["ssh-ed25519 AAAAother"]), TODAY))


def test_canaries_that_contradict_the_claimed_epsilon_keep_it_shut() -> None:
    fine = CanaryCheck(
        site="north",
        canaries=1000,
        steps=150,
        claimed=3.5,
        delta=1e-5,
        lower_bound=2.0,
        ceiling=5.56,
        assumption="fair coins",
        flagged=False,
        words="not contradicted",
    )
    for check, reasons in ((fine, 0), (fine.model_copy(update={"flagged": True}), 1)):
        one = signed()
        held = replace(one, report=one.report.model_copy(update={"canaries": (check,)}))
        found = objections(held, policy(), TODAY)
        assert len(found) == reasons
        assert all("canaries of north contradict the claimed epsilon 3.5" in reason for reason in found)
