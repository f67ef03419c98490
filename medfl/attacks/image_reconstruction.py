"""Images of strangers, rebuilt from their released features by an attacker with images of its own.

The attacker splits its subjects: decoders learn from most of them, the others end the training, tell how far
reconstructions can be trusted, and choose the decoder. A reconstruction is judged by how much it looks like the
original beside what the attacker knew without the release, and by whether it names the original among images of other
subjects: a blurred image that does is a disclosure, however blurred it is.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.attributes import percentiles
from medfl.attacks.division import divide
from medfl.attacks.feature_inversion import aligned_rows
from medfl.attacks.image_decoders import (
    Decoder,
    OwnImages,
    fit_convolutions,
    fit_linear,
    fit_network,
    principal_components,
)
from medfl.attacks.image_matching import Compare, best_comparison, correlation, named_first, one_each
from medfl.attacks.image_similarity import psnr, ssim
from medfl.attacks.pairs import Features, Floats
from medfl.attacks.rates import no_narrower_than_exact
from medfl.attacks.similarity_gain import similarity_gain, similarity_measure
from medfl.errors import ConfigError, ShapeError
from medfl.results.attack import AttackResult, Measure

_HELD_OUT = 0.25
_SIMILARITIES = ("ssim", "ssim_of_prior", "psnr", "psnr_of_prior")


@dataclass(frozen=True, eq=False)
class Example:
    """One reconstruction beside what it should be.

    Attributes
    ----------
    reconstruction, original, nearest : ndarray of shape (H, W)
        `nearest` is the attacker's own image that correlates highest with the reconstruction.
    similarity : float
        SSIM of reconstruction and original.
    """

    reconstruction: Floats
    original: Floats
    nearest: Floats
    similarity: float


@dataclass(frozen=True, eq=False)
class ImageReconstruction:
    """What decoders made of the release.

    Attributes
    ----------
    results : tuple of AttackResult
        "ssim_gain" and "rank_1" of each decoder, in this order.
    chosen : int
        Index of the "rank_1" of the decoder that did best on the attacker's own held-out subjects.
    example : Example
        Of the chosen decoder and the test subject whose reconstruction is most similar to the original.
    data_range : (float, float)
        Least and largest value of the attacker's images; reconstructions are clipped to it.
    """

    results: tuple[AttackResult, ...]
    chosen: int
    example: Example
    data_range: tuple[float, float]


Fit = Callable[..., Decoder]


def evaluate_image_reconstruction(
    released: Features,
    images: Features,
    subjects: ArrayLike,
    *,
    seed: int,
    gallery: int = 100,
    draws: int = 1000,
    epochs: int = 60,
) -> ImageReconstruction:
    """Learn decoders on the attacker's subjects, and rebuild one image of each test subject.

    Parameters
    ----------
    released : ndarray of shape (n, D) or (n, C, h, w)
        What everybody sees; the attacker's images and the strangers' were released in the same way.
    images : ndarray of shape (n, H, W)
        What they were made from; every extent at least 3.
    subjects : array_like of shape (n,)
    seed : int
        Of the division, the networks, the galleries and the bootstrap. Equal seeds give equal results, but for
        `seconds`.
    gallery : int
        Most images, one per subject, that a reconstruction has to name its original among; at least 2.
    draws : int
        Of the bootstrap over subjects; at least 1.
    epochs : int
        Most passes of networks over the attacker's images; at least 1.

    Returns
    -------
    ImageReconstruction
        "ssim_gain" is RDLV (Hatamizadeh et al. 2022) of means, ``(SSIM of reconstructions - SSIM of the prior) / SSIM
        of the prior``, the prior being the mean of the attacker's images and the divisor at least 0.05. "rank_1" is the
        share of reconstructions that fit their original best among the gallery, ties shared: by correlation, or by the
        likelihood of as many components as name most of the attacker's own held-out subjects
        (`medfl.attacks.image_matching`). Its interval is a bootstrap's, no narrower than that of Clopper and Pearson
        with subjects as trials; its further measure "rank_1_by_correlation" is by correlation in any case. `validation`
        is "rank_1" of the attacker's own held-out subjects, in galleries of at most half of them.

    Raises
    ------
    ConfigError
        If `gallery`, `draws` or `epochs` is too small.
    ShapeError
        If arrays do not fit together, are not finite, or all images are equal.
    TooFewSubjectsError
        As `medfl.attacks.division.divide`.
    """
    if gallery < 2 or draws < 1 or epochs < 1:
        raise ConfigError(f"gallery must be at least 2, draws and epochs 1; got {gallery}, {draws} and {epochs}.")
    names = aligned_rows(subjects, released, images)[0]
    if images.ndim != 3 or min(images.shape[1:]) < 3:
        raise ShapeError(f"images must be (n, H, W) with every extent at least 3, found {images.shape}.")
    is_test = divide(names, seed).is_test
    held = ~is_test & _held_out(names, ~is_test, seed)
    pictures = np.asarray(images, dtype=np.float64)
    own, other = (
        OwnImages(released[~is_test & ~held], pictures[~is_test & ~held]),
        OwnImages(released[held], pictures[held]),
    )
    known = pictures[~is_test]
    low, high = float(known.min()), float(known.max())
    prior, basis = known.mean(axis=0), principal_components(own.images.reshape(len(own.images), -1))
    asked = one_each(names, is_test, seed)
    judge = _Judge(prior, pictures[asked], high - low, min(gallery, len(asked)), draws, seed)
    rows: list[AttackResult] = []
    best: tuple[float, int, Floats] | None = None
    for name, fit in _decoders(released):
        began = time.perf_counter()
        decode = _clipped(fit(own, other, epochs=epochs, seed=seed), low, high)
        compare, validation = best_comparison(
            basis, prior, decode(other.features), other.images, names[held], gallery, seed
        )
        found = decode(released[asked])
        gain, rank = judge(found, compare)
        facts = {
            "name": name,
            "setting": f"images of {images.shape[1]} x {images.shape[2]}",
            "subjects": len(asked),
            "positives": len(asked),
            "attacker_subjects": len(np.unique(names[~is_test])),
            "budget": f"{len(known)} own images",
            "seconds": time.perf_counter() - began,
        }
        rows += [gain.model_copy(update=facts), rank.model_copy(update=facts | {"validation": validation})]
        if best is None or validation > best[0]:
            best = validation, len(rows) - 1, found
    assert best is not None
    return ImageReconstruction(tuple(rows), best[1], judge.most_similar(best[2], known), (low, high))


@dataclass(frozen=True, eq=False)
class _Judge:
    """Judges the reconstructions of one image of each test subject."""

    prior: Floats
    originals: Floats
    data_range: float
    gallery: int
    draws: int
    seed: int

    def __call__(self, found: Floats, compare: Compare) -> tuple[AttackResult, AttackResult]:
        """Return "ssim_gain" and "rank_1"."""
        hits = named_first(found, self.originals, compare, self.gallery, self.seed)
        alike = named_first(found, self.originals, correlation(self.prior), self.gallery, self.seed)
        table = np.column_stack([*self._similar(found), hits, alike])
        drawn = np.random.default_rng(self.seed).integers(len(table), size=(self.draws, len(table)))
        resampled = np.stack([table[one].mean(axis=0) for one in drawn])
        means = table.mean(axis=0)
        low, high = percentiles(similarity_gain(resampled[:, 0], resampled[:, 1]))
        gain = AttackResult(
            family="inversion",
            name="",
            knowledge="re-trained",
            metric="ssim_gain",
            value=float(similarity_gain(means[0], means[1])),
            ci_low=low,
            ci_high=high,
            chance=0.0,
            baseline="mean of the attacker's own images",
            subjects=len(table),
            positives=len(table),
            negatives=0,
            attacker_subjects=0,
            further=tuple(
                similarity_measure(label, means[at], resampled[:, at]) for at, label in enumerate(_SIMILARITIES)
            ),
            seconds=0.0,
        )
        low, high = self._rate(means[4], resampled[:, 4])
        again = self._rate(means[5], resampled[:, 5])
        rank = gain.model_copy(
            update={
                "metric": "rank_1",
                "value": float(means[4]),
                "ci_low": low,
                "ci_high": high,
                "chance": 1 / self.gallery,
                "baseline": "guessing",
                "negatives": len(table) * (self.gallery - 1),
                "further": (
                    Measure(
                        name="rank_1_by_correlation",
                        value=float(means[5]),
                        ci_low=again[0],
                        ci_high=again[1],
                        chance=1 / self.gallery,
                    ),
                ),
            }
        )
        return gain, rank

    def most_similar(self, found: Floats, known: Floats) -> Example:
        """Return the reconstruction with the highest SSIM beside the attacker's image that is most like it."""
        similar = [ssim(one, true, self.data_range) for one, true in zip(found, self.originals, strict=True)]
        at = int(np.argmax(similar))
        nearest = int(correlation(self.prior)(found[at : at + 1], known)[0].argmax())
        return Example(found[at], self.originals[at], known[nearest], float(similar[at]))

    def _similar(self, found: Floats) -> Sequence[list[float]]:
        pairs = list(zip(found, self.originals, strict=True))
        return (
            [ssim(one, true, self.data_range) for one, true in pairs],
            [ssim(self.prior, true, self.data_range) for _, true in pairs],
            [psnr(one, true, self.data_range) for one, true in pairs],
            [psnr(self.prior, true, self.data_range) for _, true in pairs],
        )

    def _rate(self, value: float, resampled: Floats) -> tuple[float, float]:
        return no_narrower_than_exact(float(value), *percentiles(resampled), len(self.originals))


def _decoders(released: Features) -> tuple[tuple[str, Fit], ...]:
    vectors: tuple[tuple[str, Fit], ...] = (("linear decoder", fit_linear), ("neural decoder", fit_network))
    return (*vectors, ("convolutional decoder", fit_convolutions)) if released.ndim == 4 else vectors


def _held_out(names: NDArray[np.str_], is_own: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Mark the images of a quarter of the attacker's subjects."""
    people = np.unique(names[is_own])
    chosen = np.random.default_rng(seed + 1).choice(people, max(2, round(_HELD_OUT * len(people))), replace=False)
    return np.asarray(np.isin(names, chosen))


def _clipped(decode: Decoder, low: float, high: float) -> Decoder:
    return lambda new: np.clip(decode(new), low, high)
