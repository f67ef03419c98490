"""What reconstructed images are worth beside what the attacker knew without the update."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from medfl.attacks.attributes import percentiles
from medfl.attacks.image_similarity import psnr, ssim
from medfl.attacks.similarity_gain import similarity_gain, similarity_measure
from medfl.errors import ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult

_Floats = NDArray[np.float64]
_LEVEL = 0.95
_NOTHING_LEFT = 1e-6


@dataclass(frozen=True, eq=False)
class InversionCase:
    """One image that was in an update, and what was rebuilt from that update.

    Attributes
    ----------
    subject : str
    original : ndarray of shape (H, W), (D, H, W) or (F,)
    rebuilt : ndarray of shape (R, *original)
        Everything rebuilt from the update, in the order in which targets were given to the search.
    slot : int
        Which of them had the original's own target.
    twins : ndarray like `rebuilt`, or None
        What the same search with the same targets makes of an update of other images; needed where targets say more
        than a class, since a mask alone tells much of its image.
    """

    subject: str
    original: NDArray[np.floating]
    rebuilt: NDArray[np.floating]
    slot: int = 0
    twins: NDArray[np.floating] | None = None


def evaluate_gradient_inversion(
    cases: Sequence[InversionCase],
    prior: NDArray[np.floating],
    others: NDArray[np.floating],
    *,
    name: str,
    setting: str,
    budget: str,
    attacker_subjects: int,
    seconds: float,
    gallery: int = 100,
    data_range: float = 1.0,
    draws: int = 4000,
    seed: int = 0,
) -> tuple[AttackResult, ...]:
    """Judge reconstructions against what the attacker knew without the update.

    "rank_1": the attacker is shown a gallery, one image that was in the update among images of strangers, and names
    one of them: the image whose correlation with any reconstruction is highest, after what it knew before has been
    taken out. That is its own mean image, projected out of reconstructions and gallery alike, and the correlation with
    the twin, which is subtracted. So neither typical looks nor given targets name anybody: an update that says nothing
    leaves the image among strangers like any of them, and guessing names it once in `gallery`. No reconstruction is
    assigned to an image by looking at the truth. The value is the expectation over all galleries that can be drawn from
    `others`. The interval is that of Clopper and Pearson with subjects as trials, which stays open where all or none
    were named; images of one update share their reconstructions, which it does not see.

    "ssim_gain", for images only: RDLV (Hatamizadeh et al. 2022) of means,
    ``(mean SSIM of reconstructions - mean SSIM of the prior) / mean SSIM of the prior``, with the percentile interval
    of a bootstrap over subjects; the divisor is at least 0.05. A reconstruction is compared with the image whose target
    it was given; where images of one update had equal targets, that understates it.

    Every subject weighs the same, however many images it has.

    Parameters
    ----------
    cases : sequence of InversionCase
        Of at least two subjects.
    prior : ndarray of shape (*spatial) or (F,)
        Mean of the attacker's own images, none of them of a subject in the cases or of `others`.
    others : ndarray of shape (N, *spatial) or (N, F)
        Images of strangers that were in no update or twin, one of each subject.
    name, setting, budget : str
        The budget says what the search cost.
    attacker_subjects : int
        Behind the prior.
    seconds : float
        That the reconstructions took.
    gallery : int
        At least 2; not more than ``N + 1`` are used.
    data_range : float
        Largest minus smallest value of an image.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    tuple of AttackResult
        "rank_1"; then "ssim_gain" with the similarities behind it, unless images are vectors.

    Raises
    ------
    ShapeError
        If images do not fit together, or a setting is out of range.
    TooFewSubjectsError
        If the cases hold fewer than two subjects.
    """
    subjects, numbers = np.unique([case.subject for case in cases], return_inverse=True)
    if len(subjects) < 2:
        raise TooFewSubjectsError(f"An interval over subjects needs at least two of them, found {len(subjects)}.")
    _check(cases, prior, others)
    if draws < 1 or gallery < 2:
        raise ShapeError(f"draws must be at least 1 and gallery at least 2, got {draws} and {gallery}.")
    size = min(gallery, len(others) + 1)
    known = _known(prior)
    remaining = _remaining(others, known)
    named = np.array([_named(case, remaining, known, size) for case in cases])
    trials, hits = len(subjects), float(sum(named[numbers == one].mean() for one in range(len(subjects))))
    rank = AttackResult(
        family="gradient inversion",
        name=name,
        knowledge="update",
        setting=setting,
        metric="rank_1",
        value=hits / trials,
        ci_low=float(beta.ppf((1 - _LEVEL) / 2, hits, trials - hits + 1)) if hits > 0 else 0.0,
        ci_high=float(beta.ppf((1 + _LEVEL) / 2, hits + 1, trials - hits)) if hits < trials else 1.0,
        chance=1 / size,
        subjects=trials,
        positives=len(cases),
        negatives=len(cases) * (size - 1),
        attacker_subjects=attacker_subjects,
        budget=budget,
        seconds=seconds,
    )
    if prior.ndim == 1:
        return (rank,)
    rows = np.array([_judged(case, prior, data_range) for case in cases])
    table = np.stack([rows[numbers == subject].mean(axis=0) for subject in range(trials)])
    drawn = np.random.default_rng(seed).integers(trials, size=(draws, trials))
    return rank, _gain_row(rank, table, table[drawn].mean(axis=1))


def _check(cases: Sequence[InversionCase], prior: NDArray[np.floating], others: NDArray[np.floating]) -> None:
    fit = others.shape[1:] == prior.shape and len(others) > 0
    for case in cases:
        fit &= case.original.shape == prior.shape == case.rebuilt.shape[1:] and 0 <= case.slot < len(case.rebuilt)
        fit &= case.twins is None or case.twins.shape == case.rebuilt.shape
    if not fit:
        raise ShapeError(
            "prior, others, originals, reconstructions and twins must have one shape, others at least one."
        )


def _gain_row(rank: AttackResult, table: _Floats, resampled: _Floats) -> AttackResult:
    means = table.mean(axis=0)
    low, high = percentiles(similarity_gain(resampled[:, 0], resampled[:, 1]))
    labels = ("ssim", "ssim_of_prior", "psnr", "psnr_of_prior")
    return rank.model_copy(
        update={
            "metric": "ssim_gain",
            "value": float(similarity_gain(means[0], means[1])),
            "ci_low": low,
            "ci_high": high,
            "chance": 0.0,
            "baseline": "mean of the attacker's own images",
            "negatives": 0,
            "further": tuple(similarity_measure(label, means[at], resampled[:, at]) for at, label in enumerate(labels)),
        }
    )


def _judged(case: InversionCase, prior: NDArray[np.floating], data_range: float) -> tuple[float, float, float, float]:
    original, found = case.original, case.rebuilt[case.slot]
    return (
        ssim(found, original, data_range),
        ssim(prior, original, data_range),
        psnr(found, original, data_range),
        psnr(prior, original, data_range),
    )


def _named(case: InversionCase, others: _Floats, known: _Floats, size: int) -> float:
    """Return the probability that the original is named among `size` - 1 of the others, drawn at random."""
    shown = np.concatenate([_remaining(case.original[None], known), others])
    likeness = shown @ _remaining(case.rebuilt, known).T
    if case.twins is not None:
        likeness = likeness - shown @ _remaining(case.twins, known).T
    best = likeness.max(axis=1)
    above, level = int((best[1:] > best[0] + 1e-12).sum()), int((np.abs(best[1:] - best[0]) <= 1e-12).sum())
    return float(np.mean([_none_drawn(above + ties, len(others), size - 1) for ties in range(level + 1)]))


def _none_drawn(marked: int, total: int, drawn: int) -> float:
    """Return the probability that none of the marked are among those drawn without replacement."""
    steps = np.arange(drawn)
    return float(np.prod(np.maximum(total - marked - steps, 0) / (total - steps)))


def _known(prior: NDArray[np.floating]) -> _Floats:
    """Return an orthonormal basis (V, 2) of a constant and the prior."""
    flat = prior.reshape(-1).astype(np.float64)
    return np.asarray(np.linalg.qr(np.stack([np.ones_like(flat), flat], axis=1))[0])


def _remaining(images: NDArray[np.floating], known: _Floats) -> _Floats:
    """Return flat images without what was known, of norm 1, or 0 where nothing is left."""
    vectors = images.reshape(len(images), -1).astype(np.float64)
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= (vectors @ known) @ known.T
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    left = norms > _NOTHING_LEFT * sizes
    return np.asarray(np.where(left, vectors / np.where(left, norms, 1.0), 0.0))
