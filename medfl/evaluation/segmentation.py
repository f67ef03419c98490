"""Segmentation: what is measured, study by study, at the site.

`medfl.evaluation.segmentation_sums` adds the studies up, `medfl.evaluation.segmentation_metrics` finishes the sums.

Conventions, per class
----------------------
* A study is *present* if its reference holds the class, else *absent*.
* Dice and IoU per case exist for present studies only; a prediction without the class then scores 0 and the study
  counts as *missed*. Surface distances exist where both masks hold the class.
* An absent study never enters a per-case mean. It counts in the rate of absent-organ false positives and in their
  volume, and its false-positive voxels count in the pooled-voxel Dice and IoU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ConfigError, ShapeError
from medfl.evaluation.disclosure import MIN_SUBJECTS, check_min_subjects
from medfl.evaluation.surfaces import surface_scores

CASE_FIELDS = ("dice", "iou", "tp", "fp", "fn", "hd95_mm", "msd_mm", "nsd", "false_positive_ml")


@dataclass(frozen=True)
class SegmentationTask:
    """What is measured.

    Attributes
    ----------
    class_names : tuple of str
        Foreground classes; the class at position i has the label i + 1.
    tolerance_mm : float
        Tolerance of the normalised surface distance.
    min_subjects : int
        Smallest number of subjects that a number leaving the site may describe.
    """

    class_names: tuple[str, ...]
    tolerance_mm: float = 1.0
    min_subjects: int = MIN_SUBJECTS

    def __post_init__(self) -> None:
        """Check the settings."""
        check_min_subjects(self.min_subjects)
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise ConfigError("class_names must name at least one class, each once.")
        if not self.tolerance_mm >= 0:
            raise ConfigError(f"tolerance_mm must be >= 0, got {self.tolerance_mm}.")

    def schema(self) -> dict[str, tuple[str, ...]]:
        """Blocks a site may send, with their columns."""
        blocks: dict[str, tuple[str, ...]] = {}
        for name in self.class_names:
            blocks[f"voxels/{name}"] = ("tp", "fp", "fn")
            blocks |= {f"{key}/{name}": (key, "present") for key in ("dice", "iou", "missed")}
            blocks |= {f"{key}/{name}": (key, "found") for key in ("hd95_mm", "msd_mm", "nsd")}
            blocks |= {f"{key}/{name}": (key, "absent") for key in ("absent_false_positive", "absent_ml")}
        return blocks


def measure_study(
    predicted: NDArray[np.integer],
    reference: NDArray[np.integer],
    *,
    spacing_mm: Sequence[float],
    task: SegmentationTask,
) -> NDArray[np.float64]:
    """Measure one study against its reference.

    Parameters
    ----------
    predicted, reference : ndarray of shape (D, H, W) or (H, W), int
        Label maps; 0 is background.
    spacing_mm : sequence of float
        Distance between voxel centres per axis. For pictures of unknown size use 1: "mm" then means pixels.
    task : SegmentationTask

    Returns
    -------
    ndarray of shape (n_classes, 9), float64
        Columns `CASE_FIELDS`; NaN where a metric is undefined.

    Raises
    ------
    ShapeError
        If the shapes or the spacing do not fit together.
    """
    if predicted.shape != reference.shape or predicted.ndim not in (2, 3):
        raise ShapeError(f"label maps must share one 2-D or 3-D shape, got {predicted.shape} and {reference.shape}.")
    if len(spacing_mm) != predicted.ndim or min(spacing_mm) <= 0:
        raise ShapeError(f"spacing_mm must hold {predicted.ndim} positive numbers, got {len(spacing_mm)}.")
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    rows = [
        _measure_class(predicted == label, reference == label, spacing_mm, voxel_ml, task.tolerance_mm)
        for label in range(1, len(task.class_names) + 1)
    ]
    return np.stack(rows)


def _measure_class(
    predicted: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    voxel_ml: float,
    tolerance_mm: float,
) -> NDArray[np.float64]:
    """Return one row of `CASE_FIELDS`."""
    undefined = float("nan")
    tp = int(np.count_nonzero(predicted & reference))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    if tp + fn == 0:
        return np.array([undefined, undefined, tp, fp, fn, undefined, undefined, undefined, fp * voxel_ml])
    dice, iou = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)
    if tp + fp == 0:
        return np.array([dice, iou, tp, fp, fn, undefined, undefined, undefined, undefined])
    box = _bounding_box(predicted | reference)
    surfaces = surface_scores(predicted[box], reference[box], spacing_mm=spacing_mm, tolerance_mm=tolerance_mm)
    return np.array([dice, iou, tp, fp, fn, *surfaces, undefined])


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box around a non-empty mask."""
    box = []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(box)


def per_case(measured: NDArray[np.float64], task: SegmentationTask) -> dict[str, float | None]:
    """Name the numbers of one study for the site's own case table; they are never sent.

    Parameters
    ----------
    measured : ndarray of shape (n_classes, 9)
        From `measure_study`.
    task : SegmentationTask

    Returns
    -------
    dict of str to float or None
        ``dice/NAME``, ``hd95_mm/NAME`` and so on; None where undefined.
    """
    return {
        f"{field}/{name}": None if np.isnan(value) else float(value)
        for name, row in zip(task.class_names, measured, strict=True)
        for field, value in zip(CASE_FIELDS, row, strict=True)
    }
