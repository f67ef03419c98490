"""Audited runs side by side: how well the task is done, epsilon, and what attackers found."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfl.audit.figures import Figure, Point, utility_figure
from medfl.audit.gate import SignedBy
from medfl.audit.verdicts import furthest, is_void, is_weak
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.errors import AuditError
from medfl.governance.policy import AuditPolicy, limit_of, question_of
from medfl.results.arms import AuditedArm, AuditTable, FamilyHeadline, Utility
from medfl.results.attack import AttackResult, Family
from medfl.results.audit_store import AuditStore
from medfl.results.metrics import RunMetrics
from medfl.results.report import FamilyOutcome
from medfl.results.store import RunStore
from pipelines.audit_files import read_signed

_METRICS = ("dice_mean", "auroc", "average_precision", "balanced_accuracy", "accuracy")
_LEAKAGE: tuple[tuple[Family, str, str], ...] = (
    ("re-identification", "auc", "AUC of the re-trained attacker, re-identification"),
    ("re-identification", "rank_1", "rank 1 of the re-trained attacker, re-identification"),
    ("inversion", "rank_1", "rank 1 of inversion"),
    ("gradient inversion", "rank_1", "rank 1 of gradient inversion"),
    ("membership", "auc", "AUC of membership inference"),
    ("released sums", "auc", "AUC of membership in released sums"),
)
_DECIDES = ("margins", "gallery", "positive_control_auc")


@dataclass(frozen=True)
class _Run:
    """A run folder that was read."""

    name: str
    config: Config
    plan: dict[str, Any]
    metrics: RunMetrics
    signed: SignedBy


def compare_audits(folders: Sequence[Path]) -> AuditTable:
    """Put finished, audited runs of one task into one table; every signature is checked.

    Parameters
    ----------
    folders : sequence of Path
        Run folders, at least one.

    Raises
    ------
    AuditError
        If a run is not finished or was never audited, a signature does not hold, a report is about another run, or the
        runs have different tasks, no metric in common, or were judged by different margins.
    """
    if not folders:
        raise AuditError("A table needs at least one audited run; got none.")
    runs = [_read(folder) for folder in folders]
    _check_comparable(runs)
    policy = AuditPolicy.model_validate(runs[0].signed.report.policy)
    metric = _common_metric(runs)
    axis = _common_leakage(runs)
    rows = tuple(_row(run, metric, axis, policy) for run in runs)
    return AuditTable(
        leakage="" if axis is None else axis[2],
        limit=None if axis is None else limit_of(policy, axis[0], axis[1], 0.0),
        rows=rows,
        notes=_notes(runs, axis is not None),
    )


def audits_figure(table: AuditTable) -> Figure:
    """Draw the task metric against the headline attack that all runs have.

    Raises
    ------
    AuditError
        If they have none in common, or the extra `report` is not installed.
    """
    if not table.leakage:
        raise AuditError("A figure needs a headline attack that every run has; these have none in common.")
    arms = [row.arm for row in table.rows]
    names = arms if len(set(arms)) == len(arms) else [row.run for row in table.rows]
    points = [
        Point(
            name,
            row.leakage.value,
            row.leakage.ci_low,
            row.leakage.ci_high,
            row.utility.value,
            row.utility.ci_low,
            row.utility.ci_high,
        )
        for name, row in zip(names, table.rows, strict=True)
        if row.leakage is not None
    ]
    return utility_figure(points, table.leakage, table.rows[0].utility.name, table.limit)


def _read(folder: Path) -> _Run:
    store, name = RunStore(folder), folder.resolve().name
    if not store.is_finished():
        raise AuditError(f"A table is of finished runs; '{name}' has no metrics.json. Finish it with --resume.")
    if not AuditStore.of(folder).report.exists():
        raise AuditError(f"Every run in a table must have been audited; '{name}' was not. Run: medfl audit {folder}")
    signed = read_signed(folder)
    text, plan = store.read_settings()
    if signed.report.scope.plan_sha256 != plan.get("sha256"):
        raise AuditError(f"A report must be about the run it lies in; that of '{name}' is not. Audit it again.")
    return _Run(name, parse_config(text, source="config.yaml"), plan, store.read_metrics(), signed)


def _check_comparable(runs: Sequence[_Run]) -> None:
    def differ(of: Callable[[_Run], object]) -> str:
        other = next((run.name for run in runs if of(run) != of(runs[0])), None)
        return "" if other is None else f"'{runs[0].name}' and '{other}'"

    tasks = differ(lambda run: (run.config.task.kind, run.config.task.dimensions, run.config.task.classes))
    if tasks:
        raise AuditError(f"Runs in one table must have one task; {tasks} differ in kind, dimensions or classes.")
    margins = differ(lambda run: [run.signed.report.policy.get(name) for name in _DECIDES])
    if margins:
        raise AuditError(
            f"Runs in one table must be judged by one policy; {margins} were by different margins, gallery or positive "
            "control. Audit again with the same --policy."
        )


def _common_metric(runs: Sequence[_Run]) -> str:
    for name in _METRICS:
        found = [run.metrics.pooled.get(name) for run in runs]
        if all(one is not None and None not in (one.value, one.ci_low, one.ci_high) for one in found):
            return name
    raise AuditError(f"Runs in one table need a task metric with an interval in common, of {', '.join(_METRICS)}.")


def _common_leakage(runs: Sequence[_Run]) -> tuple[Family, str, str] | None:
    for axis in _LEAKAGE:
        if all(_leakage(run, axis) is not None for run in runs):
            return axis
    return None


def _leakage(run: _Run, axis: tuple[Family, str, str]) -> AttackResult | None:
    """Return the attack that did best on the attacker's own held-out subjects; the first where none was validated."""
    found = [
        attack
        for family in run.signed.report.families
        if family.family == axis[0] and not is_void(family)
        for attack in _headlines(family)
        if attack.metric == axis[1]
    ]
    return max(found, key=lambda one: -math.inf if one.validation is None else one.validation, default=None)


def _headlines(family: FamilyOutcome) -> list[AttackResult]:
    attacks = [family.attacks[place] for place in family.headline]
    return [attack for attack in attacks if question_of(family.family, attack.metric) is not None]


def _row(run: _Run, metric: str, axis: tuple[Family, str, str] | None, policy: AuditPolicy) -> AuditedArm:
    report = run.signed.report
    return AuditedArm(
        run=run.name,
        config=report.scope.run,
        arm=report.scope.arm,
        sharing=report.scope.sharing,
        utility=_utility(run.metrics, metric),
        private=tuple(one for one in report.releases if math.isfinite(one.epsilon)),
        unproven=sum(math.isinf(one.epsilon) for one in report.releases),
        families=tuple(_headline(family, policy) for family in report.families),
        leakage=None if axis is None else _leakage(run, axis),
        verdicts={verdict.question: verdict.status for verdict in report.verdicts},
        budget=report.budget,
        report_sha256=run.signed.sha256,
        tool=run.signed.tool,
    )


def _utility(metrics: RunMetrics, name: str) -> Utility:
    found = metrics.pooled[name]
    return Utility.model_validate(
        {"name": name, "value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n}
    )


def _headline(family: FamilyOutcome, policy: AuditPolicy) -> FamilyHeadline:
    if family.status != "run":
        return FamilyHeadline(family=family.family, status=family.status)
    if is_void(family):
        return FamilyHeadline(family=family.family, status="void")
    worst = furthest(_headlines(family), policy)
    return FamilyHeadline(
        family=family.family,
        status="weak" if is_weak(family) else "run",
        attack=worst,
        limit=None if worst is None else limit_of(policy, family.family, worst.metric, worst.chance),
    )


def _notes(runs: Sequence[_Run], has_axis: bool) -> tuple[str, ...]:
    reports = [run.signed.report for run in runs]
    found: tuple[tuple[str, list[object]], ...] = (
        (
            "The runs were attacked with different budgets; a weaker attack finds less.",
            [one.budget for one in reports],
        ),
        (
            "The runs were made on different data, or on data divided in another way.",
            [sorted(run.plan.get("data", {}).items()) for run in runs],
        ),
        ("The reports were made by different versions of medfl.", [one.tool.version for one in reports]),
        ("The reports are signed with different keys.", [run.signed.tool.split()[:2] for run in runs]),
    )
    notes = [note for note, values in found if any(value != values[0] for value in values)]
    missing = () if has_axis else ("The runs have no headline attack in common, so there is no figure of them.",)
    return (*notes, *missing)
