"""The answers of an audit, and the table over audited runs."""

import typer
from rich.box import SIMPLE
from rich.table import Table

from app.cli.display import stdout_console
from medfl.results.arms import AuditedArm, AuditTable, FamilyHeadline
from medfl.results.report import AuditReport

_SIGNS = {"below margin": "+", "above margin": "!", "inconclusive": "?", "invalid": "x"}
_COLORS = {"below margin": "green", "above margin": "red", "inconclusive": "yellow", "invalid": "magenta"}
_NAMES_WIDTH, _RUN_WIDTH = 22, 36


def print_verdicts(report: AuditReport) -> None:
    """Print the three answers with what they rest on, and what was not tested."""
    for verdict in report.verdicts:
        status = typer.style(f"{_SIGNS[verdict.status]} {verdict.status}", fg=_COLORS[verdict.status], bold=True)
        typer.echo(f"\n{verdict.question}: {status}\n  {verdict.reason}")
        if verdict.value is not None:
            interval = f"{verdict.value:.3f} [{verdict.ci_low:.3f}, {verdict.ci_high:.3f}]"
            typer.echo(f"  {verdict.strongest}: {interval}; margin: {verdict.margin}")
        if verdict.subjects_needed is not None:
            typer.echo(f"  An answer would take about {verdict.subjects_needed} test subjects.")
    for sentence in report.not_tested:
        typer.echo(f"not tested: {sentence}")


def print_audits(table: AuditTable) -> None:
    """Print one column per run: utility, epsilon, the headline attack of each family, the three answers."""
    console = stdout_console()
    together = max(1, (console.width - _NAMES_WIDTH) // _RUN_WIDTH)
    for first in range(0, len(table.rows), together):
        console.print(_columns(table.rows[first : first + together]), markup=False)
    console.print(
        "95 % intervals, resampled by subject. Of several headline attacks of a family: the one furthest over its "
        "margin, which follows the slash and was set before. An epsilon holds for what it names alone.",
        markup=False,
    )
    for note in table.notes:
        console.print(f"note: {note}", markup=False)


def epsilons(row: AuditedArm) -> tuple[str, ...]:
    """Return every distinct epsilon with what gives it a meaning, and how many releases have none."""
    found = [
        f"{one.epsilon:g} (delta {one.delta:g}, per {one.unit}, {one.adjacency}): {one.what}"
        for one in row.private
        if one.delta is not None
    ]
    rest = f"none: {row.unproven} other releases" if row.unproven else ""
    return (*dict.fromkeys(found), *([rest] if rest else [])) if found else ("none",)


def _columns(rows: tuple[AuditedArm, ...]) -> Table:
    shown = Table(box=SIMPLE)
    shown.add_column("run", no_wrap=True)
    for row in rows:
        shown.add_column(row.run, max_width=_RUN_WIDTH, overflow="fold")
    shown.add_row("protection", *(row.arm if row.sharing == "features" else f"{row.arm} (weights)" for row in rows))
    shown.add_row(
        rows[0].utility.name, *(_value(row.utility.value, row.utility.ci_low, row.utility.ci_high) for row in rows)
    )
    shown.add_row("epsilon per subject", *("\n".join(epsilons(row)) for row in rows))
    shown.add_row("budget", *(row.budget for row in rows), end_section=True)
    for family in dict.fromkeys(one.family for row in rows for one in row.families):
        found = [next((one for one in row.families if one.family == family), None) for row in rows]
        shown.add_row(family, *("-" if one is None else _attack(one) for one in found))
    shown.add_section()
    for question in rows[0].verdicts:
        shown.add_row(question, *(f"{_SIGNS[row.verdicts[question]]} {row.verdicts[question]}" for row in rows))
    return shown


def _attack(one: FamilyHeadline) -> str:
    if one.attack is None:
        return one.status
    name = one.attack.name + (f", {one.attack.setting}" if one.attack.setting else "")
    found = f"{one.attack.metric} {_value(one.attack.value, one.attack.ci_low, one.attack.ci_high)}"
    limit = "" if one.limit is None else f" / {one.limit:.2f}"
    return f"{found}{limit}\n{name}" + ("\npositive control failed" if one.status == "weak" else "")


def _value(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
