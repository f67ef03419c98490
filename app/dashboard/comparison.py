"""One site beside others: key metrics, subgroups, calibration, and where uncertainty comes from."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from app.dashboard.case_table import Case, quantile_of
from medfl.evaluation.finishing import jeffreys_interval
from medfl.evaluation.reliability import ReliabilityBin, bins_from_predictions, reliability_diagram
from medfl.results.metrics import MetricValue, RunMetrics

FEWEST = 10
"""A group of fewer subjects is not shown: its numbers would describe single people."""

KEY_METRICS = ("dice_mean", "auroc", "balanced_accuracy", "accuracy")
MAIN_METRICS = (
    *("dice_mean", "hd95_mm", "nsd", "missed_rate", "absent_false_positive_rate"),
    *("auroc", "sensitivity", "specificity", "accuracy", "balanced_accuracy", "ece", "brier"),
)
_LARGEST = 16_000_000

Attribute = Literal["sex", "age", "scanner"]
_TWO_CLASSES = ("sensitivity/", "specificity/")
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)
Standing = Literal["better", "worse", "no clear difference"]


@dataclass(frozen=True)
class Group:
    """One subgroup of the site's cases.

    Attributes
    ----------
    attribute : str
    name : str
        For example "F", "60-79" or a scanner.
    subjects, studies : int
    value, low, high : float or None
        Mean score over subjects with its 95 % interval; None where there are fewer than ten subjects.
    """

    attribute: str
    name: str
    subjects: int
    studies: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Sources:
    """How many cases are uncertain, and why: counts of cases in the upper tenth of their site.

    Attributes
    ----------
    neither, entropy, spread, both : int
        Uncertain in the answer itself, unstable under small changes of the image, or both.
    """

    neither: int
    entropy: int
    spread: int
    both: int


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str
    seed: int
    metrics: RunMetrics


class _Comparison(BaseModel):
    model_config = ConfigDict(extra="ignore")
    models: tuple[_Model, ...]


def key_metric(metrics: Mapping[str, MetricValue]) -> str | None:
    """Return the metric that speaks for a run; higher is better for all of them."""
    return next((name for name in KEY_METRICS if name in metrics and metrics[name].value is not None), None)


def main_metrics(metrics: Mapping[str, MetricValue]) -> list[str]:
    """Return the metrics to show first, those of single classes after the one over all.

    With two classes, sensitivity and specificity of each say the same twice and are left out.
    """
    order = {name: place for place, name in enumerate(MAIN_METRICS)}

    def place(name: str) -> tuple[int, str]:
        return order[name.partition("/")[0].partition("@")[0]], name

    known = [
        name
        for name in metrics
        if name.partition("/")[0].partition("@")[0] in order
        and not (name.startswith(_TWO_CLASSES) and "sensitivity" in metrics)
    ]
    return sorted((name for name in known if metrics[name].value is not None), key=place)


def standing(mine: MetricValue, reference: MetricValue) -> Standing | None:
    """Tell whether a site does better or worse than a reference; None where there is no interval.

    It does where the whole 95 % interval lies on one side of the reference's value.
    """
    if mine.ci_low is None or mine.ci_high is None or reference.value is None:
        return None
    if mine.ci_low > reference.value:
        return "better"
    return "worse" if mine.ci_high < reference.value else "no clear difference"


def baselines_beside(folder: Path, seed: int) -> dict[str, RunMetrics]:
    """Return the models that `medfl compare` judged beside a run: "local", "local:SITE", "ensemble", "pooled".

    Parameters
    ----------
    folder : Path
        The run folder; `compare.json` lies beside it.
    seed : int
        Of the run.
    """
    path = folder.resolve().parent / "compare.json"
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        found = _Comparison.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError, RecursionError):
        return {}
    wanted = ("local", "ensemble", "pooled")
    return {one.name: one.metrics for one in found.models if one.seed == seed and one.name.partition(":")[0] in wanted}


def subgroups(cases: Sequence[Case], attribute: Attribute) -> list[Group]:
    """Return the groups of one attribute; none where fewer than two are named.

    Parameters
    ----------
    cases : sequence of Case
        Of one site.
    attribute : {"sex", "age", "scanner"}
    """
    named: dict[str, list[Case]] = {}
    for case in cases:
        name = _age_band(case.age) if attribute == "age" else getattr(case, attribute)
        if name and case.score is not None:
            named.setdefault(str(name), []).append(case)
    return [_group(attribute, name, members) for name, members in sorted(named.items())] if len(named) > 1 else []


def subject_mean(cases: Sequence[Case]) -> tuple[float, float, float]:
    """Return the mean score over subjects and its 95 % interval: Student's t, or Jeffreys where all are 0 or 1.

    Raises
    ------
    ValueError
        If no case has a score, or there is one subject alone.
    """
    scores: dict[str, list[float]] = {}
    for case in cases:
        if case.score is not None:
            scores.setdefault(case.subject or case.study, []).append(case.score)
    means = np.array([np.mean(values) for values in scores.values()])
    if len(means) < 2:
        raise ValueError("a mean over subjects needs at least two of them.")
    value = float(means.mean())
    if all(case.is_right is not None for case in cases):
        low, high = jeffreys_interval(value, len(means))
        return value, low, high
    from scipy.stats import t

    half = float(t.ppf(0.975, len(means) - 1)) * float(means.std(ddof=1)) / math.sqrt(len(means))
    return value, max(0.0, value - half), min(1.0, value + half)


def calibration(cases: Sequence[Case]) -> list[ReliabilityBin]:
    """Return the bars of the reliability diagram; bins of fewer than ten subjects are merged with their neighbours.

    None where there is no confidence, or fewer than ten subjects.
    """
    known = [case for case in cases if case.is_right is not None and 0 < case.numbers.get("confidence", 0) <= 1]
    subjects = sorted({case.subject or case.study for case in known})
    if len(subjects) < FEWEST:
        return []
    place = {subject: number for number, subject in enumerate(subjects)}
    bins = bins_from_predictions(
        np.array([place[case.subject or case.study] for case in known]),
        np.array([case.numbers["confidence"] for case in known]),
        np.array([bool(case.is_right) for case in known]),
        min_subjects=FEWEST,
    )
    return reliability_diagram([bins])


def uncertainty_sources(cases: Sequence[Case]) -> Sources | None:
    """Count the cases of one site by what their uncertainty comes from; None where it is not recorded."""
    known = [case for case in cases if {"entropy", "spread"} <= case.numbers.keys()]
    if not known:
        return None
    high = {
        name: [quantile_of(case.numbers[name], [one.numbers[name] for one in known]) > 0.9 for case in known]
        for name in ("entropy", "spread")
    }
    pairs = list(zip(high["entropy"], high["spread"], strict=True))
    return Sources(
        neither=pairs.count((False, False)),
        entropy=pairs.count((True, False)),
        spread=pairs.count((False, True)),
        both=pairs.count((True, True)),
    )


def rank_correlation(cases: Sequence[Case]) -> float | None:
    """Return Spearman's correlation of uncertainty and score; None with fewer than ten cases or no spread."""
    pairs = [
        (case.numbers["entropy"], case.score) for case in cases if "entropy" in case.numbers and case.score is not None
    ]
    if len(pairs) < FEWEST or any(len(set(column)) < 2 for column in zip(*pairs, strict=True)):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _group(attribute: str, name: str, members: Sequence[Case]) -> Group:
    subjects = len({case.subject or case.study for case in members})
    if subjects < FEWEST:
        return Group(attribute, name, subjects, len(members), None, None, None)
    return Group(attribute, name, subjects, len(members), *subject_mean(members))


def _age_band(age: str) -> str:
    """Return a band of twenty years; "" where the age is no number."""
    try:
        start = int(float(age) // 20) * 20
    except ValueError:
        return ""
    return f"{start:02d}-{start + 19}" if 0 <= start < 160 else ""
