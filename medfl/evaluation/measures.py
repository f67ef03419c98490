"""Additive measures: what a site sends instead of a metric.

A site adds up a few named columns over its subjects. The hub adds the sites' totals and finishes the metric once,
which gives the metric of the pooled data (after FLAM, Stricker et al. 2026, arXiv 2605.07962). Beside the totals
travels a coarse covariance of the totals, the first two moments of the subject bootstrap, from which the hub
resamples. No bootstrap replicate leaves a site: with few subjects its secret weights can be found (a replicate
that drew one subject alone *is* that subject's value).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medfl.errors import ReplyError, ShapeError, TooFewSubjectsError
from medfl.evaluation.disclosure import MIN_SUBJECTS, coarsen_covariance, round_to

Arrays = dict[str, NDArray[np.generic]]
_FIELDS = ("n_subjects", "totals", "covariance", "resolution")


@dataclass(frozen=True, eq=False)
class MeasureBlock:
    """Sums of k columns over the subjects of one site, or of several.

    Attributes
    ----------
    names : tuple of str
        The k columns.
    n_subjects : int
        Subjects behind the sums; 0 means that nobody belongs here.
    totals : ndarray of shape (k,), float64
        Sum over subjects of the subject's own values, rounded to `resolution`.
    covariance : ndarray of shape (k, k), float64
        Estimated sampling covariance of `totals` when subjects are resampled within their site, coarsened.
    resolution : ndarray of shape (k,), float64
        Rounding step of each total; 0 where it is exact. After merging: the sum of the sites' steps.
    n_sites : int
        Strata behind the sums.
    """

    names: tuple[str, ...]
    n_subjects: int
    totals: NDArray[np.float64]
    covariance: NDArray[np.float64]
    resolution: NDArray[np.float64]
    n_sites: int = 1

    def __post_init__(self) -> None:
        """Check shapes, finiteness, symmetry and signs."""
        k = len(self.names)
        shapes = (self.totals.shape, self.covariance.shape, self.resolution.shape)
        if shapes != ((k,), (k, k), (k,)):
            raise ShapeError(f"a block of {k} columns must hold ({k},), ({k}, {k}) and ({k},), got {shapes}.")
        if self.n_subjects < 0:
            raise ShapeError(f"n_subjects must be >= 0, got {self.n_subjects}.")
        if not all(np.isfinite(part).all() for part in (self.totals, self.covariance, self.resolution)):
            raise ShapeError("a block must hold finite numbers only.")
        if (self.resolution < 0).any():
            raise ShapeError("a rounding step must be >= 0.")
        largest = float(np.abs(self.covariance).max(initial=0.0))
        if not np.allclose(self.covariance, self.covariance.T, rtol=0.0, atol=1e-9 * largest):
            raise ShapeError("the covariance must be symmetric.")
        if k and float(np.linalg.eigvalsh(self.covariance).min()) < -1e-6 * largest:
            raise ShapeError("the covariance must be positive semidefinite.")

    @property
    def error_bounds(self) -> NDArray[np.float64]:
        """Largest distance between each total and the exact one, shape (k,)."""
        return np.where(self.resolution > 1e-6, self.resolution / 2, 0.0)


def sum_by_subject(subject_ids: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up the studies of each subject.

    Parameters
    ----------
    subject_ids : sequence of str, length n_studies
    values : ndarray of shape (n_studies, k)

    Returns
    -------
    ndarray of shape (n_subjects, k)
        In the sorted order of the pseudonyms.
    """
    if len(subject_ids) != len(values):
        raise ShapeError(f"one subject per study is needed, got {len(subject_ids)} for {len(values)} studies.")
    names, index = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index.reshape(-1), values)
    return sums


def block_from_subjects(
    names: Sequence[str],
    values: NDArray[np.float64],
    *,
    resolution: NDArray[np.float64] | None = None,
    spread: Literal["totals", "ratio", "none"] = "totals",
    min_subjects: int = MIN_SUBJECTS,
) -> MeasureBlock:
    """Add up the subjects of one site.

    Parameters
    ----------
    names : sequence of str, length k
    values : ndarray of shape (n, k)
        One row per subject: the sum over its studies.
    resolution : ndarray of shape (k,), optional
        Rounding steps of the totals (see `medfl.evaluation.disclosure`); 0, the default, keeps integers exact.
    spread : {"totals", "ratio", "none"}
        Which covariance to send. "ratio": the block holds (sum, weight), the metric is their ratio, and the spread
        is taken around the site's own ratio with the delete-one-subject jackknife. "none": zeros, for counts whose
        interval follows from the counts.
    min_subjects : int
        The site's minimum.

    Returns
    -------
    MeasureBlock

    Raises
    ------
    TooFewSubjectsError
        If there are subjects, but fewer than `min_subjects`.
    """
    n, k = values.shape
    if 0 < n < min_subjects:
        raise TooFewSubjectsError(f"sums need at least {min_subjects} subjects, this one has fewer. Nothing is sent.")
    steps = np.zeros(k) if resolution is None else np.asarray(resolution, dtype=np.float64)
    totals = round_to(values.sum(axis=0), steps)
    if n == 0:
        return MeasureBlock(tuple(names), 0, np.zeros(k), np.zeros((k, k)), np.zeros(k))
    covariance = np.zeros((k, k))
    if spread == "ratio":
        covariance = _ratio_covariance(values, totals)
    elif spread == "totals":
        covariance = _total_covariance(values)
    return MeasureBlock(tuple(names), n, totals, covariance, steps)


def _total_covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coarse covariance of column sums; only the diagonal counts where columns are many for the subjects.

    k times the diagonal is an upper bound (in the order of quadratic forms) of any covariance with that diagonal.
    """
    n, k = values.shape
    centred = values - values.mean(axis=0)
    covariance = centred.T @ centred * (n / max(n - 1, 1))
    if 2 * k > n:
        return coarsen_covariance(np.diag(k * np.diag(covariance)))
    return coarsen_covariance(covariance)


def _ratio_covariance(values: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coarse covariance of (sum, weight), coarsened around the ratio so that nothing cancels."""
    n = len(values)
    weight = values[:, 1]
    ratio = totals[0] / totals[1] if totals[1] > 0 else 0.0
    leverage = np.minimum(weight / weight.sum(), 0.9) if weight.sum() > 0 else np.zeros(n)
    residual = (values[:, 0] - ratio * weight) / (1.0 - leverage)
    around = np.column_stack([residual * np.sqrt((n - 1) / n), (weight - weight.mean()) * np.sqrt(n / max(n - 1, 1))])
    inflation = _inflation(n, weight) if weight.sum() > 0 else 1.0
    coarse = coarsen_covariance(around.T @ around * inflation)
    back = np.array([[1.0, ratio], [0.0, 1.0]])
    return np.asarray(back @ coarse @ back.T, dtype=np.float64)


def _inflation(n: int, weight: NDArray[np.float64]) -> float:
    """Widen for unequal weights: t quantiles at the effective number of subjects instead of n, squared."""
    effective = max(float(weight.sum() ** 2 / (weight**2).sum()), 2.0)
    wide, narrow = stats.t.ppf(0.975, [effective - 1, n - 1])
    return float((wide / narrow) ** 2)


def merge(blocks: Sequence[MeasureBlock]) -> MeasureBlock:
    """Add the sums of several sites.

    Subjects are resampled within their site, so the covariances of the sites' totals add.

    Parameters
    ----------
    blocks : sequence of MeasureBlock
        At least one, all with the same columns.

    Raises
    ------
    ShapeError
        If there is none, or the columns differ.
    """
    if not blocks or len({block.names for block in blocks}) != 1:
        raise ShapeError("merging needs at least one block, and the same columns in all of them.")
    return MeasureBlock(
        blocks[0].names,
        sum(block.n_subjects for block in blocks),
        np.sum([block.totals for block in blocks], axis=0),
        np.sum([block.covariance for block in blocks], axis=0),
        np.sum([block.resolution for block in blocks], axis=0),
        sum(block.n_sites for block in blocks),
    )


def flatten(blocks: Mapping[str, MeasureBlock]) -> Arrays:
    """Turn blocks into named arrays for the wire.

    Parameters
    ----------
    blocks : mapping of str to MeasureBlock
        Blocks of one site.

    Returns
    -------
    dict of str to ndarray
        Per block ``KEY.n_subjects`` (1,) int64 and ``KEY.totals``, ``KEY.covariance``, ``KEY.resolution`` float64.
    """
    arrays: Arrays = {}
    for key, block in blocks.items():
        arrays[f"{key}.n_subjects"] = np.array([block.n_subjects], dtype=np.int64)
        arrays[f"{key}.totals"] = block.totals
        arrays[f"{key}.covariance"] = block.covariance
        arrays[f"{key}.resolution"] = block.resolution
    return arrays


def unflatten(
    arrays: Mapping[str, NDArray[np.generic]], schema: Mapping[str, Sequence[str]]
) -> dict[str, MeasureBlock]:
    """Read one site's blocks back, trusting nothing.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What the site sent.
    schema : mapping of str to sequence of str
        Expected blocks with their columns. A block that is missing altogether was suppressed at the site.

    Returns
    -------
    dict of str to MeasureBlock

    Raises
    ------
    ReplyError
        If a name is unknown, a part is missing, or a shape, dtype or value is impossible.
    """
    known = {f"{key}.{field}" for key in schema for field in _FIELDS}
    if not set(arrays) <= known:
        raise ReplyError("unknown_measure", f"{len(set(arrays) - known)} arrays have names the plan does not know.")
    blocks: dict[str, MeasureBlock] = {}
    for key, names in schema.items():
        parts = [arrays.get(f"{key}.{field}") for field in _FIELDS]
        if all(part is None for part in parts):
            continue
        count, totals, covariance, resolution = (checked_array(part) for part in parts)
        if count.shape != (1,) or count.dtype != np.int64:
            raise ReplyError("bad_measures", "n_subjects must be one int64.")
        if any(part.dtype != np.float64 for part in (totals, covariance, resolution)):
            raise ReplyError("bad_measures", "sums must be float64.")
        try:
            blocks[key] = MeasureBlock(tuple(names), int(count[0]), totals, covariance, resolution)
        except ShapeError as error:
            raise ReplyError("bad_measures", f"a block of measures is not usable: {error}") from error
    return blocks


def largest_group(arrays: Mapping[str, NDArray[np.generic]]) -> int:
    """Return the largest number of subjects that a site's arrays claim to describe; 0 when they claim none.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What the site sent, segmentation or classification.
    """
    counts = [array for name, array in arrays.items() if name.endswith("n_subjects") or name == "subjects"]
    return max((int(array.max()) for array in counts if array.dtype.kind == "i" and array.size), default=0)


def checked_array(part: NDArray[np.generic] | None) -> NDArray[np.float64]:
    """Refuse a missing part or one that holds anything but numbers.

    Parameters
    ----------
    part : ndarray or None

    Raises
    ------
    ReplyError
        With reason ``bad_measures``.
    """
    if part is None:
        raise ReplyError("bad_measures", "a block of measures came without one of its parts.")
    if part.dtype.kind not in "if":
        raise ReplyError("bad_measures", f"measures must be numbers, got dtype {part.dtype}.")
    return np.asarray(part) if part.dtype == np.int64 else part.astype(part.dtype)
