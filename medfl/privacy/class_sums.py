"""Additive sums over samples, from which a federation learns directions; with and without noise.

**What raw sums tell.** They are a release like any other, and nothing protects a subject in them: epsilon is infinite.
With fewer samples than channels the second moments give away the space that the samples span, so whoever holds
somebody's features sees at once whether that person is among them (``tests/privacy/test_class_sums.py`` does it). With
more samples a mean or a cross product still differs by exactly one sample's share when a subject joins. A minimum of
subjects per class keeps a class from being one person; it is no protection against the above. `noised` is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ConfigError, PrivacyError, ReplyError, ShapeError, TooFewSubjectsError
from medfl.privacy.accounting import ReleaseEvent, check_delta, gaussian_release
from medfl.privacy.gaussian import NoiseSource, analytic_sigma

Array = NDArray[np.float64]
_NAMES = ("counts", "subjects", "sums", "cross")
_SYMMETRY = 1e-9


@dataclass(frozen=True, eq=False)
class ClassSums:
    """Sums over the samples of one site, or of several: K classes, C channels, float64.

    Attributes
    ----------
    counts : ndarray of shape (K,)
        Samples per class; not whole after `noised`.
    subjects : ndarray of shape (K,)
        Distinct subjects per class. Sites are assumed to share no subject.
    sums : ndarray of shape (K, C)
        Sum of x per class.
    cross : ndarray of shape (C, C)
        Sum of x xᵀ over all classes.

    Raises
    ------
    ShapeError
        If the shapes do not fit, a number is not finite, a count or a square is negative, a class has more subjects
        than samples, or `cross` is not symmetric.
    """

    counts: Array
    subjects: Array
    sums: Array
    cross: Array

    def __post_init__(self) -> None:
        """Check shapes, finiteness, signs and symmetry."""
        if self.sums.ndim != 2:
            raise ShapeError(f"sums must have shape (K, C), found {self.sums.shape}.")
        classes, channels = self.sums.shape
        expected = {"counts": (classes,), "subjects": (classes,), "cross": (channels, channels)}
        for name, array in self.to_arrays().items():
            if array.dtype != np.float64:
                raise ShapeError(f"{name} must be float64, found {array.dtype}.")
            if array.shape != expected.get(name, array.shape):
                raise ShapeError(f"{name} must have shape {expected[name]}, found {array.shape}.")
            if not np.isfinite(array).all():
                raise ShapeError(f"{name} must hold finite numbers only.")
        if (self.counts < 0).any() or (self.subjects < 0).any() or (np.diag(self.cross) < 0).any():
            raise ShapeError("counts, subjects and sums of squares must not be negative.")
        if (self.subjects > self.counts).any():
            raise ShapeError("a class must not have more subjects than samples.")
        largest = float(np.abs(self.cross).max(initial=0.0))
        if not np.allclose(self.cross, self.cross.T, rtol=0.0, atol=_SYMMETRY * largest):
            raise ShapeError("cross must be symmetric.")

    def __add__(self, other: "ClassSums") -> "ClassSums":
        """Return the sums over both sites' samples.

        Raises
        ------
        ShapeError
            If the other one has other classes or channels.
        """
        if self.sums.shape != other.sums.shape:
            raise ShapeError(f"sums must have equal shapes to be added: {self.sums.shape} and {other.sums.shape}.")
        return ClassSums(
            self.counts + other.counts, self.subjects + other.subjects, self.sums + other.sums, self.cross + other.cross
        )

    @classmethod
    def zeros(cls, classes: int, channels: int) -> "ClassSums":
        """Return the sums over nobody."""
        return cls(np.zeros(classes), np.zeros(classes), np.zeros((classes, channels)), np.zeros((channels, channels)))

    def to_arrays(self) -> dict[str, Array]:
        """Return "counts", "subjects", "sums" and "cross"."""
        return {"counts": self.counts, "subjects": self.subjects, "sums": self.sums, "cross": self.cross}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "ClassSums":
        """Build sums from a site's reply.

        Raises
        ------
        ReplyError
            "bad_sums" if names, types, shapes, signs or symmetry are wrong; "not_finite".
        """
        if set(arrays) != set(_NAMES):
            raise ReplyError("bad_sums", f"class sums are the arrays {', '.join(_NAMES)}; found {len(arrays)} arrays.")
        parts: list[Array] = []
        for name in _NAMES:
            part = arrays[name]
            if part.dtype != np.float64:
                raise ReplyError("bad_sums", f"{name} must be float64, found {part.dtype}.")
            parts.append(np.asarray(part, dtype=np.float64))
            if not np.isfinite(parts[-1]).all():
                raise ReplyError("not_finite", f"{name} must hold finite numbers only.")
        try:
            return cls(*parts)
        except ShapeError as error:
            raise ReplyError("bad_sums", f"class sums are not usable: {error}") from error


def joined(parts: Sequence[ClassSums]) -> ClassSums:
    """Return the sums over all sites' samples.

    Raises
    ------
    ShapeError
        If there is no part, or their shapes differ.
    """
    if not parts:
        raise ShapeError("joining class sums needs at least one part.")
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def class_sums(
    features: Array, labels: NDArray[np.int64], subjects: Sequence[str], *, classes: int, minimum_subjects: int
) -> ClassSums:
    """Sum up one site's samples exactly; what that tells stands at the top of this module.

    Parameters
    ----------
    features : ndarray of shape (n, C)
        In public units.
    labels : ndarray of shape (n,)
        In [0, classes).
    subjects : sequence of str, length n
    classes : int
        K.
    minimum_subjects : int
        Fewest distinct subjects of a class; a class with none at all is legal.

    Raises
    ------
    TooFewSubjectsError
        If a class that occurs has fewer subjects.
    PrivacyError
        If a feature is not finite.
    ShapeError
        If lengths differ or a label is out of range.
    """
    features, labels, index = _checked(features, labels, subjects, classes)
    own = np.array([len(np.unique(index[labels == label])) for label in range(classes)], dtype=np.float64)
    if ((own > 0) & (own < minimum_subjects)).any():
        raise TooFewSubjectsError(
            f"class sums must describe at least {minimum_subjects} subjects per class; a class has fewer. "
            "Nothing was released."
        )
    counts, sums, cross = _weighted_sums(features, labels, np.ones(len(features)), classes)
    return ClassSums(counts, own, sums, cross)


def noised(
    features: Array,
    labels: NDArray[np.int64],
    subjects: Sequence[str],
    *,
    classes: int,
    minimum_subjects: int,
    clip: float,
    epsilon: float,
    delta: float,
    source: NoiseSource,
) -> tuple[ClassSums, ReleaseEvent]:
    """Sum up one site's samples with Gaussian noise: differentially private per subject, adjacency replace-one.

    Samples are clipped to L2 norm `clip`, and each subject's samples get the weight 1 / (their number): a subject
    counts once, whatever the number of samples, so `counts` are in subjects and `subjects` equals them. Replacing a
    subject then moves

    * counts by at most sqrt(2), two points of the simplex;
    * sums by at most 2 * clip, two points of a ball: with class weights w the norm is at most ``clip * |w| <= clip``;
    * cross by at most sqrt(2) * clip**2, two positive semidefinite matrices of trace at most clip**2, whose inner
      product is not negative.

    Divided by these, the three make one vector of sensitivity sqrt(3), which gets the noise. Of `cross` each
    entry of the upper triangle is released once, off the diagonal times sqrt(2), which keeps distances.

    From here on nothing looks at the data again: counts are moved to add up to the number of subjects, which replacing
    does not change, and lifted to 0; `cross` loses its negative eigenvalues, and the noise's own spectral norm,
    ``2 * std * sqrt(C)``, is added to its diagonal, so that directions the noise invented do not look important.
    Whether there are enough subjects is decided on their total number alone: a refusal must not tell about a class.

    Parameters
    ----------
    features, labels, subjects, classes
        As in `class_sums`.
    minimum_subjects : int
        Fewest distinct subjects of the site.
    clip : float
        In units of the features, > 0 and finite.
    epsilon, delta : float
        For this release; delta at most 1 / (10 * subjects).
    source : NoiseSource

    Returns
    -------
    (ClassSums, ReleaseEvent)

    Raises
    ------
    TooFewSubjectsError
        If the site has too few subjects.
    ConfigError
        If clip, epsilon or delta is out of range.
    PrivacyError
        If a feature is not finite.
    ShapeError
        If lengths differ or a label is out of range.
    """
    features, labels, index = _checked(features, labels, subjects, classes)
    if not 0 < clip < math.inf:
        raise ConfigError(
            f"noise with unknown sensitivity protects nothing: clip must be finite and > 0, found {clip}."
        )
    samples_of = np.bincount(index)
    people = len(samples_of)
    if people < max(minimum_subjects, 1):
        raise TooFewSubjectsError(
            f"noised sums need at least {max(minimum_subjects, 1)} subjects. Nothing was released."
        )
    check_delta(delta, people)
    sensitivity = math.sqrt(3.0)
    sigma = analytic_sigma(epsilon, delta, sensitivity)
    event = gaussian_release(
        sigma=sigma, sensitivity=sensitivity, delta=delta, subjects=people, note="noised class and cross-product sums"
    )
    norms = np.maximum(np.linalg.norm(features, axis=1), np.finfo(np.float64).tiny)
    features = features * np.minimum(clip / norms, 1.0)[:, None]
    counts, sums, cross = _weighted_sums(features, labels, 1.0 / samples_of[index], classes)
    counts = counts + sigma * math.sqrt(2.0) * source.normals(classes)
    sums = sums + sigma * 2.0 * clip * source.normals(sums.size).reshape(sums.shape)
    cross = _noised_cross(cross, sigma * math.sqrt(2.0) * clip**2, source)
    counts = np.maximum(counts + (people - counts.sum()) / classes, 0.0)
    return ClassSums(counts, counts, sums, cross), event


def _checked(
    features: Array, labels: NDArray[np.int64], subjects: Sequence[str], classes: int
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return float64 features, labels, and the number of each sample's subject."""
    if features.ndim != 2 or labels.shape != (len(features),) or len(subjects) != len(features):
        raise ShapeError(
            f"class sums need features (n, C) with one label and one subject each, found {features.shape}, "
            f"{labels.shape} and {len(subjects)}."
        )
    if ((labels < 0) | (labels >= classes)).any():
        raise ShapeError(f"labels must be in [0, {classes}).")
    if not np.isfinite(features).all():
        raise PrivacyError("features must be finite, found NaN or infinity. Nothing was released; check the images.")
    index = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)[1].reshape(-1)
    return features.astype(np.float64), labels, index.astype(np.int64)


def _weighted_sums(
    features: Array, labels: NDArray[np.int64], weights: Array, classes: int
) -> tuple[Array, Array, Array]:
    counts = np.bincount(labels, weights=weights, minlength=classes).astype(np.float64)
    chosen = np.zeros((classes, len(features)))
    chosen[labels, np.arange(len(features))] = weights
    rooted = features * np.sqrt(weights)[:, None]
    return counts, chosen @ features, rooted.T @ rooted


def _noised_cross(cross: Array, std: float, source: NoiseSource) -> Array:
    """Return a positive definite matrix: noise of `std` on the diagonal and of std / sqrt(2) off it, mended."""
    channels = len(cross)
    rows, columns = np.triu_indices(channels)
    noise = np.zeros_like(cross)
    noise[rows, columns] = source.normals(len(rows)) * np.where(rows == columns, std, std / math.sqrt(2.0))
    noise += np.triu(noise, 1).T
    values, vectors = np.linalg.eigh(cross + noise)
    floor = 2.0 * std / math.sqrt(2.0) * math.sqrt(channels)
    mended = (vectors * (np.maximum(values, 0.0) + floor)) @ vectors.T
    return np.asarray((mended + mended.T) / 2)
