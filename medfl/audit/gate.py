"""May this release go out? A policy's answer to a verified report and the officer's decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from medfl.governance.policy import AuditPolicy
from medfl.results.decision import Decision
from medfl.results.report import NOT_STATED, AuditReport

_DECIDES = ("margins", "gallery", "positive_control_auc")


@dataclass(frozen=True)
class SignedBy:
    """A value whose signature was checked, with the key that made it ("ssh-ed25519 AAAA...")."""

    report: AuditReport
    sha256: str
    tool: str
    decision: Decision | None = None
    officer: str = ""


def objections(signed: SignedBy, policy: AuditPolicy, today: date) -> tuple[str, ...]:
    """Return every reason to keep the gate shut; none opens it.

    Parameters
    ----------
    signed : SignedBy
        Report and decision, signatures checked.
    policy : AuditPolicy
    today : date
    """
    found = [
        f"{verdict.question}: '{verdict.status}', and the policy allows {_allowed(policy.allowed[verdict.question])}."
        for verdict in signed.report.verdicts
        if verdict.status not in policy.allowed[verdict.question]
    ]
    found += [
        f"The canaries of {one.site} contradict the claimed epsilon {one.claimed:.3g}."
        for one in signed.report.canaries
        if one.flagged
    ]
    own = policy.model_dump(mode="json")
    other = [name.replace("_", " ") for name in _DECIDES if signed.report.policy.get(name) != own[name]]
    if other:
        found.append(f"The report was made with other {', '.join(other)} than the policy has. Audit with --policy.")
    if policy.tools and not _is_one_of(signed.tool, policy.tools):
        found.append("The report is signed by a tool that the policy does not name.")
    return (*found, *_about_decision(signed, policy, today))


def _about_decision(signed: SignedBy, policy: AuditPolicy, today: date) -> list[str]:
    decision = signed.decision
    if decision is None:
        needed = "The policy wants a signed decision of the officer; there is none. Make one with 'medfl audit decide'."
        return [needed] if policy.decision == "required" else []
    found = []
    if decision.report_sha256 != signed.sha256:
        found.append("The decision is about another report.")
    if decision.decision != "release":
        found.append("The officer refused the release.")
    if policy.decision == "required" and not policy.officers:
        found.append("The policy names no officer, so nobody's decision counts. List public keys under 'officers'.")
    elif policy.officers and not _is_one_of(signed.officer, policy.officers):
        found.append("The decision is signed by somebody whom the policy does not name as officer.")
    if decision.expires != NOT_STATED and date.fromisoformat(decision.expires) < today:
        found.append(f"The decision expired on {decision.expires}.")
    return found


def _allowed(statuses: Sequence[str]) -> str:
    return " or ".join(f"'{status}'" for status in statuses) or "none"


def _is_one_of(key: str, known: Sequence[str]) -> bool:
    """Compare type and key; comments mean nothing."""
    return key.split()[:2] in [one.split()[:2] for one in known]
