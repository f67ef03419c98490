"""Segmentation: the sums over one site's studies that may leave it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError
from medfl.evaluation.disclosure import FINE_STEP, coarse_step, is_spread_out, score_step, voxel_step
from medfl.evaluation.measures import MeasureBlock, block_from_subjects, sum_by_subject
from medfl.evaluation.segmentation import CASE_FIELDS, SegmentationTask

_DICE, _IOU, _TP, _FP, _FN, _HD95, _MSD, _NSD, _ML = range(len(CASE_FIELDS))
_HD95_UNIT_MM = 4.0


def blocks_from_studies(
    subject_ids: Sequence[str], measured: NDArray[np.float64], task: SegmentationTask
) -> dict[str, MeasureBlock]:
    """Sum one site's studies into what may leave it.

    Parameters
    ----------
    subject_ids : sequence of str, length n_studies
        Pseudonyms; studies of one subject are added before anything else.
    measured : ndarray of shape (n_studies, n_classes, 9)
        Rows of `measure_study`.
    task : SegmentationTask

    Returns
    -------
    dict of str to MeasureBlock
        Only the blocks that describe no subject or at least `task.min_subjects`; the others are left out.

    Raises
    ------
    ShapeError
        If the shapes do not fit together.
    """
    expected = (len(subject_ids), len(task.class_names), len(CASE_FIELDS))
    if measured.shape != expected:
        raise ShapeError(f"measured must have shape {expected} (studies, classes, fields), got {measured.shape}.")
    blocks: dict[str, MeasureBlock] = {}
    if 0 < len(set(subject_ids)) < task.min_subjects:
        return blocks
    for position, name in enumerate(task.class_names):
        made = _class_blocks(subject_ids, measured[:, position], task.min_subjects)
        blocks |= {f"{key}/{name}": block for key, block in made.items() if block is not None}
    return blocks


def _class_blocks(
    subject_ids: Sequence[str], rows: NDArray[np.float64], min_subjects: int
) -> dict[str, MeasureBlock | None]:
    """Blocks of one class; None where too few subjects stand behind one."""
    sizes = rows[:, _TP] + rows[:, _FN]
    present = sizes > 0
    found = present & (rows[:, _TP] + rows[:, _FP] > 0)
    missed = np.where(present & ~found, 1.0, 0.0)
    false_positive = np.where(~present & (rows[:, _FP] > 0), 1.0, 0.0)
    size = float(np.median(sizes[present])) if present.any() else 0.0
    states = max(size, 2.0) ** 2 / 16
    site = _Site(subject_ids, min_subjects)
    blocks = {
        "voxels": site.voxels(rows),
        "missed": site.counts("missed", missed, "present", present),
        "absent_false_positive": site.counts("absent_false_positive", false_positive, "absent", ~present),
        "absent_ml": site.volumes(rows[:, _ML], ~present),
    }
    for field, members, weight in (
        (_DICE, present, "present"),
        (_IOU, present, "present"),
        (_HD95, found, "found"),
        (_MSD, found, "found"),
        (_NSD, found, "found"),
    ):
        name = CASE_FIELDS[field]
        blocks[name] = site.scores(name, rows[:, field], weight, members, states)
    return blocks


@dataclass(frozen=True)
class _Site:
    """The studies of one site, and the ways to sum them."""

    subject_ids: Sequence[str]
    min_subjects: int

    def _sums(self, values: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """Sum and number of member studies per subject; None if the subjects are too few."""
        ids = [subject for subject, is_member in zip(self.subject_ids, members, strict=True) if is_member]
        if 0 < len(set(ids)) < self.min_subjects:
            return None
        return sum_by_subject(ids, np.column_stack([values[members], np.ones(len(ids))]))

    def _ratio(self, names: tuple[str, str], sums: NDArray[np.float64], step: float) -> MeasureBlock:
        """(sum, number of studies), the sum rounded to `step`."""
        return block_from_subjects(
            names, sums, resolution=np.array([step, 0.0]), spread="ratio", min_subjects=self.min_subjects
        )

    def voxels(self, rows: NDArray[np.float64]) -> MeasureBlock:
        """Add voxel counts over all studies."""
        sums = sum_by_subject(self.subject_ids, rows[:, [_TP, _FP, _FN]])
        scale = float(sums.sum())
        steps = np.array([voxel_step(column, scale=scale, min_subjects=self.min_subjects) for column in sums.T])
        return block_from_subjects(("tp", "fp", "fn"), sums, resolution=steps, min_subjects=self.min_subjects)

    def counts(
        self, name: str, hits: NDArray[np.float64], weight: str, members: NDArray[np.bool_]
    ) -> MeasureBlock | None:
        """Count the studies in a category, exactly."""
        sums = self._sums(hits, members)
        if sums is None:
            return None
        return block_from_subjects((name, weight), sums, spread="none", min_subjects=self.min_subjects)

    def volumes(self, volumes: NDArray[np.float64], members: NDArray[np.bool_]) -> MeasureBlock | None:
        """Add volumes; left out where the sum would describe a few subjects."""
        sums = self._sums(volumes, members)
        if sums is None or not is_spread_out(sums[:, 0], self.min_subjects):
            return None
        step = 0.0 if len(sums) == 0 else FINE_STEP
        return self._ratio(("absent_ml", "absent"), sums, step)

    def scores(
        self, name: str, values: NDArray[np.float64], weight: str, members: NDArray[np.bool_], states: float
    ) -> MeasureBlock | None:
        """Add a per-case metric, as finely as the disclosure rules allow."""
        sums = self._sums(values, members)
        if sums is None:
            return None
        if len(sums) == 0:
            return self._ratio((name, weight), sums, 0.0)
        if name == "hd95_mm":
            return self._ratio((name, weight), sums, coarse_step(len(sums), unit=_HD95_UNIT_MM))
        ceilings = np.full(len(sums), np.inf) if name == "msd_mm" else sums[:, 1]
        step = score_step(sums[:, 0], ceilings, states=states, min_subjects=self.min_subjects)
        return self._ratio((name, weight), sums, step)
