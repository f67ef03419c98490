"""The table over protections of shared features."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from app.cli.display import stdout_console
from medfl.audit.figures import Figure, Point, utility_figure
from medfl.governance.policy import AuditPolicy
from medfl.results.arms import ArmResult, ArmTable
from medfl.results.attack import AttackResult

_NAIVE = "naive"


def print_arms(table: ArmTable) -> None:
    """Print one row per arm, averaged over seeds; arms.json holds every run and every attacker."""
    utility = table.rows[0].utility.name if table.rows else "utility"
    shown = Table(
        title=f"{table.config}: protections, mean over seeds (lowest and highest end of the runs' 95 % intervals)",
        title_justify="left",
        box=SIMPLE,
    )
    shown.add_column("arm", no_wrap=True)
    for name in (utility, "re-identified, naive", "re-identified, re-trained", "epsilon", "channels", "ms", "MB sent"):
        shown.add_column(name, justify="right")
    for (arm, epsilon, std), rows in group_rows(table.rows).items():
        shown.add_row(
            f"{arm}, std {std:g}" if std else arm,
            _interval([(r.utility.value, r.utility.ci_low, r.utility.ci_high) for r in rows]),
            _interval(_attacks(rows, naive=True)),
            _interval(_attacks(rows, naive=False)),
            "inf" if math.isinf(epsilon) else f"{epsilon:g}",
            str(rows[0].channels or "-"),
            f"{_mean([r.milliseconds_per_study for r in rows]):.2f}",
            f"{_mean([r.bytes_up / 1e6 for r in rows]):.2f}",
        )
    stdout_console().print(shown)
    stdout_console().print(
        "re-identified: AUC of telling two studies of one person from those of two persons with the same diagnosis; "
        "0.5 is chance. The re-trained attacker is the headline. epsilon holds for the features alone.",
        markup=False,
    )


def arms_figure(table: ArmTable) -> Figure:
    """Draw utility against what the re-trained attacker finds, and the margin of medfl's own policy.

    A point is a mean over seeds; its intervals reach from the lowest to the highest end of the runs' intervals. Arms
    that release nothing that is attacked have no point.

    Raises
    ------
    AuditError
        If no arm was attacked, or the extra `report` is not installed.
    """
    points = []
    for (arm, epsilon, std), rows in group_rows(table.rows).items():
        found = _attacks(rows, naive=False)
        if found:
            strength = ("" if math.isinf(epsilon) else f", epsilon {epsilon:g}") + (f", std {std:g}" if std else "")
            utility = [(row.utility.value, row.utility.ci_low, row.utility.ci_high) for row in rows]
            points.append(Point(arm + strength, *_span(found), *_span(utility)))
    name = table.rows[0].utility.name if table.rows else "utility"
    limit = AuditPolicy().margins.verification_auc
    return utility_figure(points, "AUC of the re-trained attacker, re-identification", name, limit)


def group_rows(rows: Sequence[ArmResult]) -> dict[tuple[str, float, float], list[ArmResult]]:
    """Return the runs of each arm and strength of noise: (arm, epsilon, std) -> rows."""
    found: dict[tuple[str, float, float], list[ArmResult]] = {}
    for row in rows:
        found.setdefault((row.arm, row.epsilon, row.noise_std), []).append(row)
    return found


def _attacks(rows: Sequence[ArmResult], *, naive: bool) -> list[tuple[float, float, float]]:
    chosen = [strongest([a for a in row.attacks if (a.knowledge == _NAIVE) == naive]) for row in rows]
    return [(attack.value, attack.ci_low, attack.ci_high) for attack in chosen if attack is not None]


def strongest(attacks: Sequence[AttackResult]) -> AttackResult | None:
    """Return the attacker that did best on its own validation subjects, never on the test subjects."""
    return max(attacks, key=lambda attack: attack.validation or 0.0, default=None)


def _interval(values: Sequence[tuple[float, float, float]]) -> str:
    if not values:
        return "-"
    mean, low, high = _span(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _span(values: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Return the mean, and the lowest and the highest end of the intervals."""
    ends = min(low for _, low, _ in values), max(high for _, _, high in values)
    return _mean([value for value, _, _ in values]), *ends


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
