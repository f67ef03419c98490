"""Classification: finished metrics from the sites' sums, for all sites together or for one."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medfl.evaluation.classification import ClassificationTask
from medfl.evaluation.classification_sums import ClassificationSums
from medfl.evaluation.confusion import (
    accuracy,
    balanced_accuracy,
    f1,
    macro_f1,
    matthews,
    resample_confusion,
    sensitivity,
    specificity,
)
from medfl.evaluation.finishing import class_mean, join_notes, metric_value, ratio_metric, suppression_note
from medfl.evaluation.intervals import percentiles
from medfl.evaluation.reliability import ece_bounds, resample_ece
from medfl.evaluation.score_histogram import CELLS, ScoreHistogram, auroc_bounds, average_precision_bounds
from medfl.results.metrics import MetricValue

_DRAWS = 1000
_CONSERVATIVE = "interval takes the studies of a subject as copies"
_UNSEEN = ScoreHistogram(np.array([0]), np.array([CELLS]), np.array([1]), n_subjects=1, design=2.0)
_Table = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_Bounds = Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]


def finish(
    sites: Sequence[ClassificationSums | None], task: ClassificationTask, *, seed: int = 0
) -> dict[str, MetricValue]:
    """Finish the classification metrics of the given sites together; pass one site for its own metrics.

    Parameters
    ----------
    sites : sequence of ClassificationSums or None
        One per site; None where a site sent nothing.
    task : ClassificationTask
    seed : int
        Of the intervals.

    Returns
    -------
    dict of str to MetricValue
        ``accuracy``, ``balanced_accuracy``, ``f1_macro``, ``mcc``, ``brier``, ``ece``, ``auroc``,
        ``average_precision``; per class ``sensitivity/NAME``, ``specificity/NAME``, ``f1/NAME``; with two classes the
        positive one's under the bare name as well, with more the ranking metrics per class, one against the rest.
    """
    sent = [site for site in sites if site is not None]
    left_out = join_notes(suppression_note(len(sites), len(sent)), _suppressed_classes(sent, task))
    metrics = _confusion_metrics(sent, task, left_out, seed)
    metrics["brier"] = ratio_metric(
        [{"brier": site.brier} if site is not None else {} for site in sites],
        "brier",
        seed=seed,
        upper=1.0 if len(task.class_names) == 2 else 2.0,
        note=_suppressed_classes(sent, task),
    )
    metrics["ece"] = _ece(sent, left_out, seed)
    for key, bounds in (("auroc", auroc_bounds), ("average_precision", average_precision_bounds)):
        values = [_ranking(sent, place, bounds, left_out, seed) for place in range(len(task.scored))]
        if len(task.class_names) > 2:
            names = (task.class_names[c] for c in task.scored)
            metrics |= {f"{key}/{name}": value for name, value in zip(names, values, strict=True)}
        metrics[key] = values[0] if len(values) == 1 else class_mean(values)
    return metrics


def _suppressed_classes(sent: Sequence[ClassificationSums], task: ClassificationTask) -> str:
    """Say at how many sites a class is missing because too few subjects have it."""
    sites = np.sum([site.suppressed for site in sent], axis=0) if sent else np.zeros(len(task.class_names))
    names = [f"{name} at {int(n)}" for name, n in zip(task.class_names, sites, strict=True) if n > 0]
    return f"left out, too few subjects: {', '.join(names)} of {len(sent)} sites" if names else ""


def _confusion_metrics(
    sent: Sequence[ClassificationSums], task: ClassificationTask, left_out: str, seed: int
) -> dict[str, MetricValue]:
    """Everything that the pooled confusion matrix holds."""
    functions: dict[str, _Table] = {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "f1_macro": macro_f1,
        "mcc": matthews,
    }
    for position, name in enumerate(task.class_names):
        functions |= {
            f"sensitivity/{name}": _of_class(sensitivity, position),
            f"specificity/{name}": _of_class(specificity, position),
            f"f1/{name}": _of_class(f1, position),
        }
    if len(task.class_names) == 2:
        functions |= {key: functions[f"{key}/{task.class_names[1]}"] for key in ("sensitivity", "specificity", "f1")}
    if not sent:
        return {key: MetricValue(value=None, n=0, note=left_out) for key in functions}
    counts = np.sum([site.counts for site in sent], axis=0)
    effective = np.sum([site.counts / site.design[:, None] for site in sent], axis=0)
    n = sum(site.brier.n_subjects for site in sent)
    draws = resample_confusion(effective, _DRAWS, np.random.default_rng(seed), studies=counts.sum(axis=1))
    notes = (left_out, "" if all((site.design == 1).all() for site in sent) else _CONSERVATIVE)
    subjects = dict(zip(task.class_names, np.sum([site.subjects for site in sent], axis=0).tolist(), strict=True))
    behind = {f"sensitivity/{name}": count for name, count in subjects.items()}
    if len(task.class_names) == 2:
        behind["sensitivity"] = subjects[task.class_names[1]]
    return {
        key: _of_table(
            function, counts.astype(np.float64), draws, behind.get(key, n), notes, -1.0 if key == "mcc" else 0.0
        )
        for key, function in functions.items()
    }


def _of_class(metric: Callable[[NDArray[np.float64], int], NDArray[np.float64]], position: int) -> _Table:
    """Fix the class of a per-class metric."""

    def fixed(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        return metric(tables, position)

    return fixed


def _of_table(
    metric: _Table, counts: NDArray[np.float64], draws: NDArray[np.float64], n: int, notes: Sequence[str], lower: float
) -> MetricValue:
    """Finish one metric of the confusion matrix."""
    value = float(metric(counts[None])[0])
    if not np.isfinite(value):
        return MetricValue(value=None, n=n, note=join_notes("no study of the class", *notes))
    return metric_value(value, percentiles(metric(draws)), n=n, lower=lower, notes=notes)


def _ece(sent: Sequence[ClassificationSums], left_out: str, seed: int) -> MetricValue:
    """Finish the expected calibration error."""
    if not sent:
        return MetricValue(value=None, n=0, note=left_out)
    bins = [site.reliability for site in sent]
    low, high = ece_bounds(bins)
    designs = [float((site.counts.sum(axis=1) * site.design).sum() / site.counts.sum()) for site in sent]
    draws = resample_ece(bins, designs, _DRAWS, np.random.default_rng(seed))
    limits = percentiles(draws)
    value, bound = (low + high) / 2, (high - low) / 2
    basic = None if limits is None else (2 * low - limits[1], 2 * low - limits[0])
    n = sum(site.brier.n_subjects for site in sent)
    return metric_value(value, basic, n=n, bound=bound, notes=("10 equal bins, top label", left_out))


def _ranking(sent: Sequence[ClassificationSums], place: int, bounds: _Bounds, left_out: str, seed: int) -> MetricValue:
    """Finish AUROC or average precision of one scored class.

    For the interval, half a study with an unknown score joins either side, so that a perfect ranking of few studies
    does not look certain.
    """
    positives, negatives = [site.positives[place] for site in sent], [site.negatives[place] for site in sent]
    n = sum(site.brier.n_subjects for site in sent)
    if not all(sum(len(entry.counts) for entry in side) for side in (positives, negatives)):
        return MetricValue(value=None, n=n, note=join_notes("needs studies of both kinds", left_out))
    low, high = (float(end[0]) for end in bounds(positives, negatives))
    generator = np.random.default_rng(seed)
    ups, downs = [*positives, _UNSEEN], [*negatives, _UNSEEN]
    lows, highs = bounds(ups, downs, (_weights(ups, generator), _weights(downs, generator)))
    bottom, top = percentiles(lows), percentiles(highs)
    limits = None if bottom is None or top is None else (bottom[0], top[1])
    value = metric_value((low + high) / 2, limits, n=n, notes=("from histograms", left_out))
    return value.model_copy(update={"error_bound": (high - low) / 2})


def _weights(histograms: Sequence[ScoreHistogram], generator: np.random.Generator) -> NDArray[np.float64]:
    """Bayesian bootstrap of the cells at their effective counts, scaled to the studies, shape (draws, m)."""
    effective = np.concatenate([entry.effective for entry in histograms])
    studies = float(sum(entry.counts.sum() for entry in histograms))
    return generator.dirichlet(effective, size=_DRAWS) * studies
