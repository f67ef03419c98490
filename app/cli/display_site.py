"""A site as lines for an administrator, and as plain values for JSON."""

from collections.abc import Iterator
from typing import Any

from app.site.status import SiteState
from medfl.governance.audit_entry import Entry

_SHORT = 12


def status_facts(state: SiteState) -> dict[str, Any]:
    """Return a site as plain values."""
    running, hub, log = state.running, state.hub, state.log
    return {
        "name": state.name,
        "hub": None
        if hub is None
        else {
            "name": hub.name,
            "address": hub.address,
            "fingerprint": hub.fingerprint,
            "since": hub.since.isoformat(),
        },
        "running": running is not None,
        "phase": "" if running is None else running.phase,
        "since": None if running is None else running.since.isoformat(),
        "version": "" if running is None else running.version,
        "programs": []
        if running is None
        else [
            {"name": one.name, "at_work": one.name not in state.missing, "restarts": one.restarts}
            for one in running.programs
        ],
        "paused": None if state.pause is None else {"by": state.pause.by, "since": state.pause.since.isoformat()},
        "plans": None
        if state.plans is None
        else [
            {"plan": one.name, "sha256": one.sha256, "state": one.state, "by": one.by, "until": one.until.isoformat()}
            for one in state.plans
        ],
        "log": None
        if log is None
        else {
            "entries": log.entries,
            "sound": log.is_sound,
            "replies": log.replies,
            "bytes_out": log.bytes_out,
            "last_reply": _entry_facts(log.last_reply),
            "last_refusal": _entry_facts(log.last_refusal),
        },
        "withdrawn": state.withdrawn,
        "overdue": state.overdue,
        "ledger": state.has_ledger,
        "problems": list(state.problems),
    }


def status_lines(state: SiteState) -> Iterator[str]:
    """Yield a site as lines."""
    yield f"Site '{state.name}'"
    if state.hub is None:
        yield "Hub: none yet. Send enrolment-request.json to the hub's operator, then: medfl site enroll"
    else:
        yield f"Hub: '{state.hub.name}', {state.hub.address}, since {state.hub.since}"
        yield f"Its fingerprint: {state.hub.fingerprint}"
    yield from _running_lines(state)
    if state.plans is not None:
        yield f"Plans: {len(state.plans)}" if state.plans else "Nothing is approved; this site refuses every run."
        for plan in state.plans:
            yield f"  {plan.sha256[:_SHORT]}  {plan.state} until {plan.until}  {plan.name}, by {plan.by}"
    if state.log is not None:
        yield f"Left this site so far: {state.log.replies} replies, {state.log.bytes_out:,} bytes of arrays"
        if state.log.last_reply is not None:
            yield f"Last reply: {_entry_line(state.log.last_reply)}"
        if state.log.last_refusal is not None:
            yield f"Last refusal: {_entry_line(state.log.last_refusal)}"
        sound = "every line as it was written" if state.log.is_sound else "CHANGED"
        yield f"Audit log: {state.log.entries} entries, {sound}"
    if state.withdrawn:
        yield f"Withdrawn subjects: {state.withdrawn}"
    if state.overdue:
        yield f"To delete: what {state.overdue} plans left here (policy.retention_days): medfl site purge --expired"
    yield "Privacy ledger: " + ("yes" if state.has_ledger else "none; needed for training with differential privacy")
    for problem in state.problems:
        yield f"Problem: {problem}"


def _running_lines(state: SiteState) -> Iterator[str]:
    running = state.running
    if state.pause is not None:
        yield f"PAUSED by {state.pause.by} since {state.pause.since:%Y-%m-%d %H:%M} UTC: every message is refused."
    if running is None:
        yield "Does not run. Start it with 'medfl site run'."
        return
    phase = "Runs" if running.phase == "running" else "Waits for its hub"
    yield f"{phase} since {running.since:%Y-%m-%d %H:%M} UTC, medfl {running.version}."
    if state.missing:
        yield f"Not at work: {', '.join(state.missing)}."


def _entry_facts(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "when": entry.when,
        "operation": entry.operation,
        "plan_sha256": entry.plan_sha256,
        "round": entry.round,
        "bytes_out": entry.bytes_out,
        "reason": entry.reason,
    }


def _entry_line(entry: Entry) -> str:
    plan = f", plan {entry.plan_sha256[:_SHORT]}" if entry.plan_sha256 else ""
    what = f"{entry.bytes_out:,} bytes, round {entry.round}" if entry.operation == "reply.send" else entry.operation
    return f"{entry.when}{plan}: {what}" + (f" ({entry.reason})" if entry.reason else "")
