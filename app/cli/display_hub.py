"""A hub and its runs as lines for an operator, and as plain values for JSON."""

from collections.abc import Iterator
from typing import Any

from app.hub.status import HubState
from app.hub.submit import RunState
from medfl.results.history import RoundRecord


def round_line(record: RoundRecord, rounds: int) -> str:
    """Return one line about a round that has ended."""
    good = sum(not site.refused for site in record.sites)
    said = f"round {record.number} of {rounds}: {good} of {len(record.sites)} sites, {record.seconds:.1f} s"
    refused = [f"{site.site}: {site.refused}" for site in record.sites if site.refused]
    if refused:
        said += f" (refused: {', '.join(refused)})"
    return f"{said}; skipped: {record.skipped}" if record.skipped else said


def run_facts(run: RunState) -> dict[str, Any]:
    """Return a run as plain values."""
    return {
        "plan": run.submission.plan,
        "sha256": run.submission.plan_sha256,
        "folder": str(run.folder),
        "state": run.state,
        "round": run.round,
        "rounds": run.submission.rounds,
        "sites": list(run.submission.sites),
        "reason": run.reason,
    }


def status_facts(state: HubState) -> dict[str, Any]:
    """Return a hub as plain values."""
    return {
        "name": state.name,
        "address": state.address,
        "fingerprint": state.fingerprint,
        "certificate_ends": state.certificate_ends.isoformat(),
        "running": state.running is not None,
        "phase": "" if state.running is None else state.running.phase,
        "problem": "" if state.running is None else state.running.problem,
        "missing": list(state.missing),
        "sites": [{"site": one.site, "status": one.status, "medfl_version": one.medfl_version} for one in state.sites],
        "runs": [run_facts(run) for run in state.runs],
    }


def status_lines(state: HubState) -> Iterator[str]:
    """Yield a hub as lines."""
    running = state.running
    yield f"Hub '{state.name}', {state.address}; certificate good until {state.certificate_ends:%Y-%m-%d}"
    yield f"Fingerprint {state.fingerprint}"
    if running is None:
        yield "Does not run. Start it with 'medfl hub start'."
    else:
        yield f"{'Runs' if running.phase == 'running' else 'Starting'} since {running.since:%Y-%m-%d %H:%M} UTC."
        if state.missing:
            yield f"Not at work: {', '.join(state.missing)}."
        if running.problem:
            yield f"Problem: {running.problem}"
    yield f"Sites: {len(state.sites)}" if state.sites else "No site is enrolled yet."
    for site in state.sites:
        yield f"  {site.site}: {site.status}"
    yield f"Runs: {len(state.runs)}" if state.runs else "No run was asked for yet."
    for run in state.runs:
        said = f"  {run.folder.name}: {run.state}, round {run.round} of {run.submission.rounds}"
        yield f"{said}: {run.reason}" if run.reason and run.state == "stopped" else said
