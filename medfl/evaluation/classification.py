"""Classification: what is predicted and measured, study by study, at the site.

`medfl.evaluation.classification_sums` adds the studies up, `medfl.evaluation.classification_wire` carries the sums,
`medfl.evaluation.classification_metrics` finishes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ConfigError, ShapeError
from medfl.evaluation.disclosure import MIN_SUBJECTS, check_min_subjects


@dataclass(frozen=True)
class ClassificationTask:
    """What is measured.

    Attributes
    ----------
    class_names : tuple of str
        All K >= 2 classes, in the order of the probabilities. With two, the second is the positive one.
    min_subjects : int
        Smallest number of subjects that a number leaving the site may describe.
    """

    class_names: tuple[str, ...]
    min_subjects: int = MIN_SUBJECTS

    def __post_init__(self) -> None:
        """Check the settings."""
        check_min_subjects(self.min_subjects)
        if len(self.class_names) < 2 or len(set(self.class_names)) != len(self.class_names):
            raise ConfigError("class_names must name at least two classes, each once.")

    @property
    def scored(self) -> tuple[int, ...]:
        """Classes with a ranking metric of their own: the positive one of two, or all."""
        return (1,) if len(self.class_names) == 2 else tuple(range(len(self.class_names)))


def check_predictions(
    subject_ids: Sequence[str],
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    task: ClassificationTask,
) -> NDArray[np.float64]:
    """Refuse predictions that do not fit the task.

    Parameters
    ----------
    subject_ids : sequence of str, length n
    probabilities : ndarray of shape (n, K)
        In [0, 1], rows adding up to 1 within 1e-3.
    labels : ndarray of shape (n,), int
        In [0, K).
    task : ClassificationTask

    Returns
    -------
    ndarray of shape (n, K), float64

    Raises
    ------
    ShapeError
        If shapes, ranges or sums are wrong.
    """
    n, k = len(subject_ids), len(task.class_names)
    if probabilities.shape != (n, k) or labels.shape != (n,):
        raise ShapeError(f"need probabilities ({n}, {k}) and labels ({n},), got {probabilities.shape}, {labels.shape}.")
    values = probabilities.astype(np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()):
        raise ShapeError("probabilities must lie in [0, 1].")
    if n and float(np.abs(values.sum(axis=1) - 1).max()) > 1e-3:
        raise ShapeError("the probabilities of a study must add up to 1.")
    if n and not (labels.min() >= 0 and labels.max() < k):
        raise ShapeError(f"labels must lie in [0, {k}).")
    return values


def per_case(probabilities: NDArray[np.floating], label: int, task: ClassificationTask) -> dict[str, float | None]:
    """Name the numbers of one study for the site's own case table; they are never sent.

    Parameters
    ----------
    probabilities : ndarray of shape (K,)
    label : int
    task : ClassificationTask

    Returns
    -------
    dict of str to float
        ``probability/NAME``, ``label``, ``predicted``, ``is_correct``, ``brier``, ``confidence``.
    """
    values = check_predictions(["one"], probabilities[None], np.array([label]), task)
    named: dict[str, float | None] = {
        f"probability/{name}": float(value) for name, value in zip(task.class_names, values[0], strict=True)
    }
    predicted = int(values[0].argmax())
    return named | {
        "label": float(label),
        "predicted": float(predicted),
        "is_correct": float(predicted == label),
        "brier": float(brier_scores(values, np.array([label]))[0]),
        "confidence": float(values[0].max()),
    }


def brier_scores(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Brier score of each study, as scikit-learn scales it.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
    labels : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (n,)
        Squared error of the positive class for K = 2, in [0, 1]; summed over classes otherwise, in [0, 2].
    """
    if probabilities.shape[1] == 2:
        return np.asarray((probabilities[:, 1] - (labels == 1)) ** 2)
    return np.asarray(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1))
