"""Reliability bins and the expected calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError
from medfl.evaluation.disclosure import score_step

BINS = 10


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Confidence and correctness summed over ten fixed bins, some of them merged.

    Attributes
    ----------
    start, stop : ndarray of shape (g,), int64
        Group i covers the confidences in (start[i] / 10, stop[i] / 10].
    studies, correct : ndarray of shape (g,), int64
        Studies in the group, and those predicted right.
    confidence : ndarray of shape (g,), float64
        Sum of the confidences, rounded to `resolution`.
    resolution : ndarray of shape (g,), float64
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    studies: NDArray[np.int64]
    correct: NDArray[np.int64]
    confidence: NDArray[np.float64]
    resolution: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check that the groups tile the bins and the sums are possible."""
        parts = (self.start, self.stop, self.studies, self.correct, self.confidence, self.resolution)
        if len({part.shape for part in parts}) != 1 or self.start.ndim != 1 or len(self.start) == 0:
            raise ShapeError("reliability bins must have equally many starts, stops and sums.")
        tiles = self.start[0] == 0 and self.stop[-1] == BINS and (self.start[1:] == self.stop[:-1]).all()
        if not tiles or (self.stop <= self.start).any():
            raise ShapeError(f"reliability groups must tile the {BINS} bins in order.")
        if (self.correct < 0).any() or (self.correct > self.studies).any():
            raise ShapeError("right predictions must be between none and all studies of a group.")
        if not np.isfinite(self.confidence).all() or not (np.isfinite(self.resolution) & (self.resolution >= 0)).all():
            raise ShapeError("reliability sums must be finite.")


@dataclass(frozen=True)
class ReliabilityBin:
    """One bar of the reliability diagram, pooled over sites.

    Attributes
    ----------
    low, high : float
        Confidences in (low, high].
    studies : int
    mean_confidence, accuracy : float
        In [0, 1].
    """

    low: float
    high: float
    studies: int
    mean_confidence: float
    accuracy: float


def bins_from_predictions(
    subjects: NDArray[np.int64],
    confidence: NDArray[np.float64],
    is_correct: NDArray[np.bool_],
    *,
    min_subjects: int,
) -> ReliabilityBins:
    """Sum one site's confidences, merging bins that would describe a few subjects.

    Parameters
    ----------
    subjects : ndarray of shape (n,), int64
        Index of the subject of each study; at least `min_subjects` different ones.
    confidence : ndarray of shape (n,)
        Probability of the predicted class, in (0, 1].
    is_correct : ndarray of shape (n,), bool
    min_subjects : int

    Returns
    -------
    ReliabilityBins
    """
    edges = np.arange(1, BINS) / BINS
    bins = np.searchsorted(edges, confidence, side="left")
    bounds = list(range(BINS + 1))
    while (victim := _smallest_bad_group(bounds, bins, subjects, min_subjects)) is not None:
        del bounds[_wall_to_remove(bounds, bins, victim)]
    rows = []
    for start, stop in pairwise(bounds):
        inside = (bins >= start) & (bins < stop)
        step = _step(subjects[inside], confidence[inside], start / BINS, stop / BINS, min_subjects)
        total = float(confidence[inside].sum())
        total = total if step == 0 else float(np.rint(total / step) * step)
        rows.append((start, stop, int(inside.sum()), int(is_correct[inside].sum()), total, step))
    start_, stop_, studies, correct, sums, steps = (np.array(column) for column in zip(*rows, strict=True))
    return ReliabilityBins(start_, stop_, studies, correct, sums.astype(np.float64), steps.astype(np.float64))


def _smallest_bad_group(
    bounds: Sequence[int], bins: NDArray[np.int64], subjects: NDArray[np.int64], min_subjects: int
) -> int | None:
    """Index of the first group with some, but too few subjects."""
    for index in range(len(bounds) - 1):
        inside = (bins >= bounds[index]) & (bins < bounds[index + 1])
        if 0 < len(np.unique(subjects[inside])) < min_subjects:
            return index
    return None


def _wall_to_remove(bounds: Sequence[int], bins: NDArray[np.int64], index: int) -> int:
    """Wall towards the neighbour with fewer studies, empty neighbours last."""

    def load(group: int) -> float:
        if not 0 <= group < len(bounds) - 1:
            return float("inf")
        inside = int(((bins >= bounds[group]) & (bins < bounds[group + 1])).sum())
        return float(inside) if inside else float(len(bins) + 1)

    return index if load(index - 1) < load(index + 1) else index + 1


def _step(
    subjects: NDArray[np.int64], confidence: NDArray[np.float64], low: float, high: float, min_subjects: int
) -> float:
    """Choose the rounding step of one group's sum of confidences."""
    if len(subjects) == 0:
        return 0.0
    _, index, studies = np.unique(subjects, return_inverse=True, return_counts=True)
    above_low = np.bincount(index.reshape(-1), weights=confidence - low).astype(np.float64)
    ceilings = studies.astype(np.float64) * (high - low)
    return score_step(above_low, ceilings, states=2.0**24, min_subjects=min_subjects)


def ece_bounds(sites: Sequence[ReliabilityBins]) -> tuple[float, float]:
    """Bounds of the expected calibration error over ten equal bins (Guo et al. 2017), pooled over sites.

    Bins that no site merged count exactly. Where a site merged some, the sum of signed gaps is known but not its
    parts: right predictions can pull at most (1 - low) down, wrong ones at most `high` up. Two bounds hold and the
    tighter ends are taken: merged bins placed anywhere on top of the other sites' exact bins, and all sites on the
    finest tiling they share.

    Parameters
    ----------
    sites : sequence of ReliabilityBins
        At least one study in all.

    Returns
    -------
    (float, float)
        In [0, 1]; equal where nothing was merged or rounded.
    """
    studies = float(sum(site.studies.sum() for site in sites))
    ends = np.array([_shared_bounds(pool_bins(sites)), _stacked_bounds(sites)]) / studies
    return float(ends[:, 0].max()), float(min(ends[:, 1].min(), 1.0))


def _largest_gap(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest sum of absolute gaps inside each row of (start, stop, studies, correct, confidence, resolution)."""
    gap = table[:, 4] - table[:, 3]
    slack = _slack(table)
    wrong_up = (table[:, 2] - table[:, 3]) * table[:, 1] / BINS
    right_down = table[:, 3] * (1 - table[:, 0] / BINS)
    spread = 2 * np.minimum(wrong_up, gap + slack + right_down) - gap + slack
    merged = table[:, 1] - table[:, 0] > 1
    return np.where(merged, np.maximum(np.abs(gap) + slack, spread), np.abs(gap) + slack)


def _slack(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest rounding error of each row's confidence."""
    return np.where(table[:, 5] > 1e-6, table[:, 5] / 2, 0.0)


def _shared_bounds(table: NDArray[np.float64]) -> tuple[float, float]:
    """Bounds, in studies, from all sites on one tiling."""
    least = np.maximum(np.abs(table[:, 4] - table[:, 3]) - _slack(table), 0.0)
    return float(least.sum()), float(_largest_gap(table).sum())


def _stacked_bounds(sites: Sequence[ReliabilityBins]) -> tuple[float, float]:
    """Bounds, in studies, from exact bins with the merged ones on top."""
    exact, unknown = np.zeros(BINS), 0.0
    for site in sites:
        table = pool_bins([site])
        single = table[:, 1] - table[:, 0] == 1
        np.add.at(exact, table[single, 0].astype(np.int64), (table[:, 4] - table[:, 3])[single])
        unknown += float(_slack(table)[single].sum() + _largest_gap(table)[~single].sum())
    total = float(np.abs(exact).sum())
    return max(total - unknown, 0.0), total + unknown


def pool_bins(sites: Sequence[ReliabilityBins]) -> NDArray[np.float64]:
    """Add the sites' groups on the finest tiling that all of them respect.

    Parameters
    ----------
    sites : sequence of ReliabilityBins

    Returns
    -------
    ndarray of shape (g, 6)
        start, stop, studies, correct, confidence, resolution.
    """
    walls = sorted(set.intersection(*({0, *site.stop.tolist()} for site in sites)))
    rows = []
    for start, stop in pairwise(walls):
        row = np.array([start, stop, 0, 0, 0, 0], dtype=np.float64)
        for site in sites:
            inside = (site.start >= start) & (site.stop <= stop)
            sums = (site.studies, site.correct, site.confidence, site.resolution)
            row[2:] += [float(part[inside].sum()) for part in sums]
        rows.append(row)
    return np.stack(rows)


def reliability_diagram(sites: Sequence[ReliabilityBins]) -> list[ReliabilityBin]:
    """Bars of the pooled reliability diagram, empty ones left out.

    Parameters
    ----------
    sites : sequence of ReliabilityBins
    """
    return [
        ReliabilityBin(start / BINS, stop / BINS, int(studies), confidence / studies, correct / studies)
        for start, stop, studies, correct, confidence, _ in pool_bins(sites).tolist()
        if studies > 0
    ]


def resample_ece(
    sites: Sequence[ReliabilityBins], designs: Sequence[float], draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the lower bound of the pooled calibration error.

    Bin shares come from a Dirichlet, the share of right predictions per bin from a beta distribution, both at the
    counts over the design effect; mean confidences are kept. Draws scatter around a larger value than the one observed
    (an absolute value was taken), so intervals should be reflected around it.

    Parameters
    ----------
    sites : sequence of ReliabilityBins
    designs : sequence of float
        Design effect per site, >= 1.
    draws : int
    generator : Generator

    Returns
    -------
    ndarray of shape (draws,)
        In [0, 1].
    """
    table = pool_bins(sites)
    weighted = np.mean([design * site.studies.sum() for design, site in zip(designs, sites, strict=True)])
    design = float(weighted / np.mean([site.studies.sum() for site in sites]))
    table = table[table[:, 2] > 0]
    studies, right = table[:, 2] / design, table[:, 3] / design
    shares = generator.dirichlet(studies, size=draws)
    hits = generator.beta(right + 1e-9, studies - right + 1e-9, size=(draws, len(table)))
    return np.asarray((shares * np.abs(table[:, 4] / table[:, 2] - hits)).sum(axis=1))
