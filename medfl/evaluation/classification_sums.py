"""Classification: the sums over one site's studies that may leave it.

Studies of a class with fewer subjects at the site than the minimum are left out of everything the site sends, so that
no difference of two sums describes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError
from medfl.evaluation.classification import ClassificationTask, brier_scores, check_predictions
from medfl.evaluation.disclosure import score_step
from medfl.evaluation.measures import MeasureBlock, block_from_subjects, sum_by_subject
from medfl.evaluation.reliability import ReliabilityBins, bins_from_predictions
from medfl.evaluation.score_histogram import ScoreHistogram, design_effect, histogram_from_scores

BRIER_COLUMNS = ("brier", "studies")


@dataclass(frozen=True, eq=False)
class ClassificationSums:
    """Everything one site sends about its classifications.

    Attributes
    ----------
    counts : ndarray of shape (K, K), int64
        Studies by true and predicted class.
    subjects : ndarray of shape (K,), int64
        Distinct subjects per true class: 0 or at least the minimum.
    suppressed : ndarray of shape (K,), int64
        1 where the class has subjects at the site, but fewer than the minimum: none of its studies is in any sum.
    design : ndarray of shape (K,), float64
        Design effect per true class, see `ScoreHistogram`.
    brier : MeasureBlock
        Sum of Brier scores, number of studies.
    reliability : ReliabilityBins
    positives, negatives : tuple of ScoreHistogram
        Per scored class.
    """

    counts: NDArray[np.int64]
    subjects: NDArray[np.int64]
    suppressed: NDArray[np.int64]
    design: NDArray[np.float64]
    brier: MeasureBlock
    reliability: ReliabilityBins
    positives: tuple[ScoreHistogram, ...]
    negatives: tuple[ScoreHistogram, ...]

    def __post_init__(self) -> None:
        """Check that the parts describe the same studies."""
        k = len(self.subjects)
        if self.counts.shape != (k, k) or any(p.shape != (k,) for p in (self.design, self.subjects, self.suppressed)):
            raise ShapeError(f"sums over {k} classes must hold ({k}, {k}) counts and {k} design effects.")
        if (self.counts < 0).any() or (self.subjects < 0).any() or not (self.design >= 1).all():
            raise ShapeError("counts must be >= 0 and design effects >= 1.")
        studies = int(self.counts.sum())
        others = {int(self.reliability.studies.sum()), int(self.brier.totals[1])}
        others |= {int(p.counts.sum() + n.counts.sum()) for p, n in zip(self.positives, self.negatives, strict=True)}
        if others != {studies}:
            raise ShapeError("all parts of the sums must describe the same number of studies.")


def sums_from_predictions(
    subject_ids: Sequence[str],
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    task: ClassificationTask,
) -> ClassificationSums | None:
    """Sum one site's predictions into what may leave it.

    Parameters
    ----------
    subject_ids : sequence of str, length n
        Pseudonym per study.
    probabilities : ndarray of shape (n, K)
    labels : ndarray of shape (n,), int
    task : ClassificationTask

    Returns
    -------
    ClassificationSums or None
        None if no class has enough subjects: then nothing is sent.
    """
    values = check_predictions(subject_ids, probabilities, labels, task)
    ids = np.asarray(subject_ids, dtype=str)
    classes = range(len(task.class_names))
    enough = [c for c in classes if len(np.unique(ids[labels == c])) >= task.min_subjects]
    kept, occurring = np.isin(labels, enough), np.unique(labels)
    if not kept.any():
        return None
    ids, values, truth = ids[kept], values[kept], labels[kept].astype(np.int64)
    predicted = values.argmax(axis=1)
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    per_class = [np.unique(ids[truth == c], return_counts=True)[1].astype(np.float64) for c in classes]
    histograms = [
        [_histogram(ids, values[:, c], (truth == c) == is_positive, task) for c in task.scored]
        for is_positive in (True, False)
    ]
    return ClassificationSums(
        counts=counts,
        subjects=np.array([len(studies) for studies in per_class], dtype=np.int64),
        suppressed=np.array([int(c in occurring and c not in enough) for c in classes], dtype=np.int64),
        design=np.array([design_effect(studies) for studies in per_class]),
        brier=_brier_block(ids, brier_scores(values, truth), task.min_subjects),
        reliability=bins_from_predictions(
            np.unique(ids, return_inverse=True)[1].reshape(-1).astype(np.int64),
            values.max(axis=1),
            predicted == truth,
            min_subjects=task.min_subjects,
        ),
        positives=tuple(histograms[0]),
        negatives=tuple(histograms[1]),
    )


def _histogram(
    ids: NDArray[np.str_], scores: NDArray[np.float64], members: NDArray[np.bool_], task: ClassificationTask
) -> ScoreHistogram:
    """Histogram of the members' scores; classes with too few subjects are gone already."""
    made = histogram_from_scores(ids[members].tolist(), scores[members], min_subjects=task.min_subjects)
    if made is None:
        raise ShapeError("a class with too few subjects must be left out before its scores are summed.")
    return made


def _brier_block(ids: NDArray[np.str_], scores: NDArray[np.float64], min_subjects: int) -> MeasureBlock:
    """Sum of Brier scores and number of studies."""
    sums = sum_by_subject(ids.tolist(), np.column_stack([scores, np.ones(len(scores))]))
    step = score_step(sums[:, 0], np.full(len(sums), np.inf), states=2.0**24, min_subjects=min_subjects)
    return block_from_subjects(
        BRIER_COLUMNS, sums, resolution=np.array([step, 0.0]), spread="ratio", min_subjects=min_subjects
    )
