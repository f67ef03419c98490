"""What reconstructed images are worth beside what the attacker knew without the update."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from medfl.attacks.image_similarity import psnr, ssim
from medfl.errors import ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Measure

_Floats = NDArray[np.float64]
_LEVEL = 0.95
_LEAST_PRIOR = 0.05


@dataclass(frozen=True, eq=False)
class InversionCase:
    """One reconstruction and the image it should be.

    Attributes
    ----------
    subject : str
    original : int
        Index of the true image in the pool.
    reconstruction : ndarray of shape (H, W) or (D, H, W)
    """

    subject: str
    original: int
    reconstruction: NDArray[np.floating]


def evaluate_gradient_inversion(
    cases: Sequence[InversionCase],
    prior: NDArray[np.floating],
    pool: NDArray[np.floating],
    *,
    name: str,
    setting: str,
    budget: str,
    attacker_subjects: int,
    seconds: float,
    data_range: float = 1.0,
    draws: int = 4000,
    seed: int = 0,
) -> tuple[AttackResult, AttackResult]:
    """Judge reconstructions against what the attacker knew without the update.

    Every subject weighs the same, however many images it has. "ssim_gain" is RDLV (Hatamizadeh et al. 2022) of means,
    ``(mean SSIM of reconstructions - mean SSIM of the prior) / mean SSIM of the prior``, with the percentile interval
    of a bootstrap over subjects; the divisor is at least 0.05. "matched_rank_1" is the share of reconstructions that
    correlate highest with their own original among the pool, ties shared; its interval is that of Clopper and Pearson
    with subjects as trials, which stays open where all or none were matched.

    Parameters
    ----------
    cases : sequence of InversionCase
        Of at least two subjects.
    prior : ndarray of shape (*spatial)
        Mean of the attacker's own images, none of them of a subject in the cases.
    pool : ndarray of shape (N, *spatial)
        All originals and other images; N at least 2.
    name, setting, budget : str
        The budget says batch, local steps and optimizer steps.
    attacker_subjects : int
        Behind the prior.
    seconds : float
        That the reconstructions took.
    data_range : float
        Largest minus smallest value of an image.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    (AttackResult, AttackResult)
        "ssim_gain" with the similarities behind it, then "matched_rank_1".

    Raises
    ------
    ShapeError
        If images do not fit together, or an index is not in the pool.
    TooFewSubjectsError
        If the cases hold fewer than two subjects.
    """
    subjects, numbers = np.unique([case.subject for case in cases], return_inverse=True)
    if len(subjects) < 2:
        raise TooFewSubjectsError(f"An interval over subjects needs at least two of them, found {len(subjects)}.")
    if len(pool) < 2 or not all(0 <= case.original < len(pool) for case in cases):
        raise ShapeError(f"the pool must hold at least two images and every original, found {len(pool)} images.")
    if draws < 1 or prior.shape != pool.shape[1:] or any(case.reconstruction.shape != prior.shape for case in cases):
        raise ShapeError("prior, pool and reconstructions must have one spatial shape, and draws be at least 1.")
    rows = np.array([_judged(case, prior, pool, data_range) for case in cases])
    table = np.stack([rows[numbers == subject].mean(axis=0) for subject in range(len(subjects))])
    drawn = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
    resampled = table[drawn].mean(axis=1)
    means, n, trials = table.mean(axis=0), len(cases), len(subjects)
    low, high = _percentiles(_gain(resampled[:, 0], resampled[:, 1]))
    labels = ("ssim", "ssim_of_prior", "psnr", "psnr_of_prior")
    further = tuple(_measure(label, means[at], resampled[:, at]) for at, label in enumerate(labels))
    gain = AttackResult(
        family="gradient inversion",
        name=name,
        knowledge="update",
        setting=setting,
        metric="ssim_gain",
        value=float(_gain(means[0], means[1])),
        ci_low=low,
        ci_high=high,
        chance=0.0,
        baseline="mean of the attacker's own images",
        subjects=trials,
        positives=n,
        negatives=0,
        attacker_subjects=attacker_subjects,
        further=further,
        budget=budget,
        seconds=seconds,
    )
    hits = float(table[:, 4].sum())
    rank = gain.model_copy(
        update={
            "metric": "matched_rank_1",
            "value": hits / trials,
            "ci_low": float(beta.ppf((1 - _LEVEL) / 2, hits, trials - hits + 1)) if hits > 0 else 0.0,
            "ci_high": float(beta.ppf((1 + _LEVEL) / 2, hits + 1, trials - hits)) if hits < trials else 1.0,
            "chance": 1 / len(pool),
            "baseline": "guessing",
            "negatives": n * (len(pool) - 1),
            "further": (),
        }
    )
    return gain, rank


def _judged(
    case: InversionCase, prior: NDArray[np.floating], pool: NDArray[np.floating], data_range: float
) -> tuple[float, float, float, float, float]:
    original, found = pool[case.original], case.reconstruction
    return (
        ssim(found, original, data_range),
        ssim(prior, original, data_range),
        psnr(found, original, data_range),
        psnr(prior, original, data_range),
        _first_rank(found, case.original, pool),
    )


def _first_rank(found: NDArray[np.floating], original: int, pool: NDArray[np.floating]) -> float:
    """Return 1 where the original correlates highest, 0 where another does, and a share for ties."""
    likeness = _unit(pool) @ _unit(found[None])[0]
    first = likeness >= likeness.max() - 1e-12
    return float(first[original]) / float(first.sum())


def _unit(images: NDArray[np.floating]) -> _Floats:
    vectors = images.reshape(len(images), -1).astype(np.float64)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _gain(found: _Floats, prior: _Floats) -> _Floats:
    return (found - prior) / np.maximum(prior, _LEAST_PRIOR)


def _percentiles(values: _Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _measure(label: str, value: float, resampled: _Floats) -> Measure:
    if not np.isfinite(value):
        return Measure(name=label, value=None, note="an image was reproduced exactly, which has no finite PSNR")
    low, high = _percentiles(resampled)
    return Measure(name=label, value=float(value), ci_low=low, ci_high=high)
