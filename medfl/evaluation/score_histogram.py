"""Score histograms that leave a site, and the exact bounds of ranking metrics they imply.

The grid is fixed: 128 cells of equal width in logit(score) between -8 and 8, the outer ones open. A site splits the
whole range only at points of this grid, tried in a fixed order, and only while both parts hold no subject or at
least the minimum. So every published cell describes enough subjects and no edge is a data value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, expit

from medfl.errors import ShapeError
from medfl.evaluation.disclosure import MIN_SUBJECTS

CELLS = 128
_REACH = 8.0
_CUTS = (4, 2, 6, 1, 3, 5, 7)
_EIGHTHS = 8


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Studies of one class (or of all others) per cell of the score.

    Attributes
    ----------
    low, high : ndarray of shape (m,), int64
        Cell i covers the grid intervals low[i] .. high[i] - 1. Cells of one site do not overlap.
    counts : ndarray of shape (m,), float64 or int64
        Studies per cell.
    n_subjects : int
        Distinct subjects behind them.
    design : float
        Sum of squared over sum of studies per subject, rounded up to eighths: how many studies weigh as much as one
        independent one if the studies of a subject were copies. At least 1.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_subjects: int
    design: float

    def __post_init__(self) -> None:
        """Check that the cells are cells."""
        shapes = {self.low.shape, self.high.shape, self.counts.shape}
        if len(shapes) != 1 or self.low.ndim != 1:
            raise ShapeError("a histogram must hold as many lower as upper edges and counts.")
        edges = np.column_stack([self.low, self.high]).reshape(-1)
        if len(edges) and (edges[0] < 0 or edges[-1] > CELLS or (np.diff(edges) < 0).any()):
            raise ShapeError(f"cells must be sorted, disjoint and within 0 .. {CELLS}.")
        if (self.high <= self.low).any() or (self.counts < 1).any() or self.n_subjects < 0:
            raise ShapeError("cells must be non-empty.")
        if not (np.isfinite(self.design) and self.design >= 1.0):
            raise ShapeError("the design effect must be at least 1.")

    @property
    def effective(self) -> NDArray[np.float64]:
        """Counts as independent studies, shape (m,)."""
        return self.counts / self.design


def score_cells(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the grid interval of each score; never falls as the score rises.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        In [0, 1].

    Returns
    -------
    ndarray of shape (n,), int64
        In [0, CELLS).
    """
    inner = expit(np.linspace(-_REACH, _REACH, CELLS + 1)[1:-1])
    return np.searchsorted(inner, scores, side="right").astype(np.int64)


def design_effect(studies_per_subject: NDArray[np.float64]) -> float:
    """Design effect if studies of a subject were fully correlated, rounded up to eighths.

    Parameters
    ----------
    studies_per_subject : ndarray of shape (n_subjects,)
        Each at least 1.

    Returns
    -------
    float
        Sum of squares over sum; 1 if there is nobody.
    """
    if len(studies_per_subject) == 0:
        return 1.0
    exact = float((studies_per_subject**2).sum() / studies_per_subject.sum())
    return float(np.ceil(exact * _EIGHTHS - 1e-9) / _EIGHTHS)


def histogram_from_scores(
    subject_ids: Sequence[str], scores: NDArray[np.float64], *, min_subjects: int = MIN_SUBJECTS
) -> ScoreHistogram | None:
    """Make the histogram that may leave a site.

    Parameters
    ----------
    subject_ids : sequence of str, length n
        Pseudonym per score.
    scores : ndarray of shape (n,)
        In [0, 1].
    min_subjects : int
        Smallest number of distinct subjects in a published cell.

    Returns
    -------
    ScoreHistogram or None
        None if there are subjects, but fewer than the minimum.
    """
    if len(subject_ids) != len(scores):
        raise ShapeError(f"one subject per score is needed, got {len(subject_ids)} for {len(scores)}.")
    names, subjects, studies = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True, return_counts=True)
    if 0 < len(names) < min_subjects:
        return None
    leaves = _split(score_cells(scores), subjects.reshape(-1), 0, CELLS, min_subjects) if len(names) else []
    table = np.array(leaves, dtype=np.int64).reshape(-1, 3)
    return ScoreHistogram(table[:, 0], table[:, 1], table[:, 2], len(names), design_effect(studies.astype(np.float64)))


def _split(
    cells: NDArray[np.int64], subjects: NDArray[np.int64], low: int, high: int, min_subjects: int
) -> list[tuple[int, int, int]]:
    """Split [low, high) as long as the rule allows; returns (low, high, studies) per non-empty leaf."""
    if len(cells) == 0:
        return []
    width = high - low
    cuts = dict.fromkeys(low + width * eighth // _EIGHTHS for eighth in _CUTS)
    for cut in cuts:
        if not low < cut < high:
            continue
        left = cells < cut
        sizes = len(np.unique(subjects[left])), len(np.unique(subjects[~left]))
        if all(size == 0 or size >= min_subjects for size in sizes):
            below = _split(cells[left], subjects[left], low, cut, min_subjects)
            return below + _split(cells[~left], subjects[~left], cut, high, min_subjects)
    return [(low, high, len(cells))]


def auroc_bounds(
    positives: Sequence[ScoreHistogram],
    negatives: Sequence[ScoreHistogram],
    weights: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest area under the ROC curve that the histograms allow.

    A pair of a positive and a negative in disjoint cells is ordered for certain; in overlapping cells it may count
    anything in [0, 1]. Both ends are sharp for the cells given.

    Parameters
    ----------
    positives, negatives : sequence of ScoreHistogram
        One per site.
    weights : pair of ndarray of shape (draws, m_positive) and (draws, m_negative), optional
        Weights in place of the counts, cells of all sites side by side.

    Returns
    -------
    low, high : ndarray of shape (draws,)
        One draw if no weights are given. In [0, 1].
    """
    above, below = _joined(positives), _joined(negatives)
    ups, downs = (above.weights[None], below.weights[None]) if weights is None else weights
    pairs = ups.sum(axis=1) * downs.sum(axis=1)
    surely = (above.low[:, None] >= below.high[None, :]).astype(np.float64)
    possibly = (above.high[:, None] > below.low[None, :]).astype(np.float64)
    low, high = (np.einsum("dp,dp->d", ups, downs @ kernel.T) / pairs for kernel in (surely, possibly))
    return low, high


def average_precision_bounds(
    positives: Sequence[ScoreHistogram],
    negatives: Sequence[ScoreHistogram],
    weights: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the average precision (sklearn's step-wise sum) that the histograms allow.

    Lower: every positive at the bottom of its cell, every negative at the top, no ties. Upper: every positive gets
    the best precision that any threshold in its cell can have, which covers ties.

    Parameters
    ----------
    positives, negatives : sequence of ScoreHistogram
        One per site.
    weights : pair of ndarray, optional
        As in `auroc_bounds`.

    Returns
    -------
    low, high : ndarray of shape (draws,)
        In [0, 1].
    """
    above, below = _joined(positives), _joined(negatives)
    ups, downs = (above.weights[None], below.weights[None]) if weights is None else weights
    grid = np.arange(CELLS)
    total = ups.sum(axis=1)
    most_above = ups @ (above.high[:, None] > grid).astype(np.float64)
    fewest_below = downs @ (below.low[:, None] > grid).astype(np.float64)
    best = np.divide(most_above, most_above + fewest_below, out=np.zeros_like(most_above), where=most_above > 0)
    reach = np.stack([best[:, low:high].max(axis=1) for low, high in zip(above.low, above.high, strict=True)], axis=1)
    here = ups @ (above.low[:, None] == grid).astype(np.float64)
    higher = ups @ (above.low[:, None] > grid).astype(np.float64)
    ahead = downs @ (below.high[:, None] > grid).astype(np.float64)
    lost = ahead * (digamma(higher + ahead + here + 1.0) - digamma(higher + ahead + 1.0))
    return (here - lost).sum(axis=1) / total, (ups * reach).sum(axis=1) / total


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells of all sites side by side."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weights: NDArray[np.float64]


def _joined(histograms: Sequence[ScoreHistogram]) -> _Cells:
    """Put the cells of all sites side by side."""
    if not histograms or not any(len(entry.counts) for entry in histograms):
        raise ShapeError("a ranking metric needs at least one study of each kind.")
    return _Cells(
        np.concatenate([entry.low for entry in histograms]),
        np.concatenate([entry.high for entry in histograms]),
        np.concatenate([entry.counts for entry in histograms]).astype(np.float64),
    )
