"""Classification: one site's sums as named arrays, and back."""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ReplyError, ShapeError
from medfl.evaluation.classification import ClassificationTask
from medfl.evaluation.classification_sums import BRIER_COLUMNS, ClassificationSums
from medfl.evaluation.measures import Arrays, MeasureBlock, checked_array, flatten, unflatten
from medfl.evaluation.reliability import ReliabilityBins
from medfl.evaluation.score_histogram import ScoreHistogram


def flatten_sums(sums: ClassificationSums, task: ClassificationTask) -> Arrays:
    """Turn one site's sums into named arrays for the wire.

    Parameters
    ----------
    sums : ClassificationSums
    task : ClassificationTask

    Returns
    -------
    dict of str to ndarray
        int64 and float64 arrays only.
    """
    arrays: Arrays = {
        "counts": sums.counts,
        "subjects": sums.subjects,
        "suppressed": sums.suppressed,
        "design": sums.design,
    }
    arrays |= flatten({"brier": sums.brier})
    arrays |= {f"reliability.{field.name}": getattr(sums.reliability, field.name) for field in fields(ReliabilityBins)}
    for side, histograms in (("positives", sums.positives), ("negatives", sums.negatives)):
        for position, made in zip(task.scored, histograms, strict=True):
            key = f"{side}/{task.class_names[position]}"
            arrays |= {f"{key}.low": made.low, f"{key}.high": made.high, f"{key}.counts": made.counts}
            arrays[f"{key}.n_subjects"] = np.array([made.n_subjects], dtype=np.int64)
            arrays[f"{key}.design"] = np.array([made.design])
    return arrays


def unflatten_sums(arrays: Mapping[str, NDArray[np.generic]], task: ClassificationTask) -> ClassificationSums | None:
    """Read one site's sums back, trusting nothing.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What the site sent; empty if it suppressed everything.
    task : ClassificationTask

    Returns
    -------
    ClassificationSums or None

    Raises
    ------
    ReplyError
        If a name is unknown, a part is missing, or a shape, dtype or value is impossible.
    """
    if not arrays:
        return None
    reader = _Reader(dict(arrays))
    try:
        sums = ClassificationSums(
            counts=reader.integers("counts"),
            subjects=reader.integers("subjects"),
            suppressed=reader.integers("suppressed"),
            design=reader.floats("design"),
            brier=reader.brier(),
            reliability=reader.reliability(),
            positives=tuple(reader.histogram(f"positives/{task.class_names[c]}") for c in task.scored),
            negatives=tuple(reader.histogram(f"negatives/{task.class_names[c]}") for c in task.scored),
        )
    except ShapeError as error:
        raise ReplyError("bad_measures", f"classification sums are not usable: {error}") from error
    if reader.arrays:
        raise ReplyError("unknown_measure", f"{len(reader.arrays)} arrays have names the plan does not know.")
    if len(sums.subjects) != len(task.class_names):
        raise ReplyError("bad_measures", "classification sums describe another number of classes.")
    return sums


class _Reader:
    """Takes arrays out by name, one by one, and checks their type."""

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.arrays = arrays

    def integers(self, name: str) -> NDArray[np.int64]:
        """Take an int64 array."""
        part = checked_array(self.arrays.pop(name, None))
        if part.dtype != np.int64:
            raise ReplyError("bad_measures", f"counts must be int64, got {part.dtype}.")
        return part.astype(np.int64)

    def floats(self, name: str) -> NDArray[np.float64]:
        """Take a float64 array."""
        part = checked_array(self.arrays.pop(name, None))
        if part.dtype != np.float64:
            raise ReplyError("bad_measures", f"sums must be float64, got {part.dtype}.")
        return part.astype(np.float64)

    def brier(self) -> MeasureBlock:
        """Take the Brier score's block."""
        parts = {name: self.arrays.pop(name) for name in list(self.arrays) if name.startswith("brier.")}
        blocks = unflatten(parts, {"brier": BRIER_COLUMNS})
        if "brier" not in blocks:
            raise ReplyError("bad_measures", "classification sums came without the Brier score.")
        return blocks["brier"]

    def reliability(self) -> ReliabilityBins:
        """Take the reliability bins."""
        return ReliabilityBins(
            start=self.integers("reliability.start"),
            stop=self.integers("reliability.stop"),
            studies=self.integers("reliability.studies"),
            correct=self.integers("reliability.correct"),
            confidence=self.floats("reliability.confidence"),
            resolution=self.floats("reliability.resolution"),
        )

    def histogram(self, key: str) -> ScoreHistogram:
        """Take one score histogram."""
        subjects, design = self.integers(f"{key}.n_subjects"), self.floats(f"{key}.design")
        if subjects.shape != (1,) or design.shape != (1,):
            raise ReplyError("bad_measures", "a histogram must come with one number of subjects and one design effect.")
        return ScoreHistogram(
            low=self.integers(f"{key}.low"),
            high=self.integers(f"{key}.high"),
            counts=self.integers(f"{key}.counts"),
            n_subjects=int(subjects[0]),
            design=float(design[0]),
        )
