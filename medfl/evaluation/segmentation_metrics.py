"""Segmentation: finished metrics from the sites' sums, for all sites together or for one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medfl.evaluation.finishing import Sites, class_mean, rate_metric, ratio_metric, totals_metric
from medfl.evaluation.segmentation import SegmentationTask
from medfl.results.metrics import MetricValue

_NO_REFERENCE = "no study holds the class"
_NO_PAIR = "no study where both masks hold the class"
_NO_ABSENT = "no study without the class"


def finish(sites: Sites, task: SegmentationTask, *, seed: int = 0) -> dict[str, MetricValue]:
    """Finish the segmentation metrics of the given sites together; pass one site for its own metrics.

    Parameters
    ----------
    sites : sequence of mapping of str to MeasureBlock
        Per site, the blocks of `medfl.evaluation.segmentation_sums.blocks_from_studies`.
    task : SegmentationTask
    seed : int
        Of the intervals.

    Returns
    -------
    dict of str to MetricValue
        ``dice_mean/NAME`` (per case), ``dice_pooled/NAME`` (pooled voxels), ``iou_mean``, ``iou_pooled``, ``hd95_mm``,
        ``msd_mm``, ``nsd@1mm``, ``missed_rate``, ``absent_false_positive_rate``, ``absent_false_positive_ml``, and
        under the bare name the mean over classes where that means something.
    """
    surface_dice = f"nsd@{task.tolerance_mm:g}mm"
    metrics: dict[str, MetricValue] = {}
    for name in task.class_names:
        metrics |= {f"{key}/{name}": value for key, value in _class_metrics(sites, name, surface_dice, seed).items()}
    averaged = ("dice_mean", "dice_pooled", "iou_mean", "iou_pooled", "hd95_mm", "msd_mm", surface_dice)
    for key in averaged:
        metrics[key] = class_mean([metrics[f"{key}/{name}"] for name in task.class_names])
    return metrics


def _class_metrics(sites: Sites, name: str, surface_dice: str, seed: int) -> dict[str, MetricValue]:
    """Metrics of one class."""

    def mean(key: str, empty: str, upper: float = 1.0, note: str = "") -> MetricValue:
        return ratio_metric(sites, f"{key}/{name}", seed=seed, upper=upper, none_note=empty, note=note)

    def pooled(metric: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> MetricValue:
        rising = np.array([1.0, -1.0, -1.0])
        return totals_metric(sites, f"voxels/{name}", metric, seed=seed, rising=rising, note="pooled voxels")

    infinite = float("inf")
    return {
        "dice_mean": mean("dice", _NO_REFERENCE, note="per case"),
        "dice_pooled": pooled(pooled_dice),
        "iou_mean": mean("iou", _NO_REFERENCE, note="per case"),
        "iou_pooled": pooled(pooled_iou),
        "hd95_mm": mean("hd95_mm", _NO_PAIR, infinite),
        "msd_mm": mean("msd_mm", _NO_PAIR, infinite),
        surface_dice: mean("nsd", _NO_PAIR),
        "missed_rate": rate_metric(sites, f"missed/{name}", none_note=_NO_REFERENCE),
        "absent_false_positive_rate": rate_metric(sites, f"absent_false_positive/{name}", none_note=_NO_ABSENT),
        "absent_false_positive_ml": mean("absent_ml", _NO_ABSENT, infinite),
    }


def pooled_dice(voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dice of pooled voxels, 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    voxels : ndarray of shape (draws, 3)
        TP, FP, FN, >= 0.

    Returns
    -------
    ndarray of shape (draws,)
        In [0, 1]; NaN where all three are 0.
    """
    return _share(2 * voxels[:, 0], voxels[:, 1] + voxels[:, 2])


def pooled_iou(voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of pooled voxels, TP / (TP + FP + FN).

    Parameters
    ----------
    voxels : ndarray of shape (draws, 3)
        TP, FP, FN, >= 0.

    Returns
    -------
    ndarray of shape (draws,)
        In [0, 1]; NaN where all three are 0.
    """
    return _share(voxels[:, 0], voxels[:, 1] + voxels[:, 2])


def _share(part: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / (part + rest), NaN where both are 0."""
    whole = part + rest
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan))
