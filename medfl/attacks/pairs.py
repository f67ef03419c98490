"""Which pairs of images an attacker is judged on, same person or not, and the shape of whatever scores them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.statistics import auc
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import Knowledge

Features = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
GENUINE_PER_SUBJECT = 20
_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class VerificationPairs:
    """Pairs of images by index.

    Attributes
    ----------
    first, second : ndarray of shape (m,), int64
        Never equal.
    is_same : ndarray of shape (m,), bool
        Both images show one subject.
    is_matched : ndarray of shape (m,), bool
        Impostor pairs of the second set, whose subjects differ and whose strata are equal. A pair may be in both sets,
        never twice in one.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    is_matched: NDArray[np.bool_]

    def against(self, *, matched: bool) -> "VerificationPairs":
        """Return the genuine pairs with one set of impostors: matched ones, or any."""
        kept = self.is_same | (self.is_matched == matched)
        return VerificationPairs(self.first[kept], self.second[kept], self.is_same[kept], self.is_matched[kept])


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores pairs of images, higher where they look like one person.

    Attributes
    ----------
    embed : callable
        Features (m, ...) -> vectors (m, K), each image by itself.
    compare : callable
        Two arrays of such vectors (m, K) -> scores (m,).
    """

    embed: Callable[[Features], Floats]
    compare: Callable[[Floats, Floats], Floats]

    def __call__(self, first: Features, second: Features) -> Floats:
        """Return scores (m,) of pairs (m, ...)."""
        return self.compare(self.embed(first), self.embed(second))

    def of_pairs(self, features: Features, pairs: VerificationPairs) -> Floats:
        """Return scores of pairs by index; every image is embedded once."""
        embedded = self.embed(features)
        chunks = [slice(start, start + _CHUNK) for start in range(0, len(pairs.first), _CHUNK)]
        return np.concatenate([self.compare(embedded[pairs.first[c]], embedded[pairs.second[c]]) for c in chunks])

    def area(self, features: Features, pairs: VerificationPairs) -> float:
        """Return the area under the curve over pairs by index."""
        scores = self.of_pairs(features, pairs)
        return auc(scores[pairs.is_same], scores[~pairs.is_same])


class Attacker(Protocol):
    """Learns from linked subjects, then scores strangers."""

    name: ClassVar[str]
    knowledge: ClassVar[Knowledge]

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Learn from features (n, ...) and the subjects (n,) behind them."""
        ...


def verification_pairs(
    subjects: ArrayLike,
    rng: np.random.Generator,
    impostors: int,
    strata: ArrayLike | None = None,
    *,
    per_subject: int = GENUINE_PER_SUBJECT,
) -> VerificationPairs:
    """All genuine pairs, a cap per subject, and random impostor pairs.

    Parameters
    ----------
    subjects : array_like of shape (n,)
        Subject of each image.
    rng : Generator
    impostors : int
        At most this many pairs of each impostor set; uniform among all there are, without repeats.
    strata : array_like of shape (n,) or None
        For example the diagnosis of each image. With it there is a second set of impostors, both of one stratum:
        without it an attacker that tells diagnoses apart looks as if it told people apart.
    per_subject : int
        A subject with more genuine pairs keeps so many of them, by chance, so that few subjects do not rule the result.

    Returns
    -------
    VerificationPairs
        Genuine pairs first, then impostors, then matched impostors.

    Raises
    ------
    ConfigError
        If `impostors` or `per_subject` is under 1.
    ShapeError
        If subjects and strata do not fit together.
    TooFewSubjectsError
        If fewer than two subjects have two images, or a stratum set holds no two subjects.
    """
    names = np.asarray(subjects)
    if names.ndim != 1:
        raise ShapeError(f"subjects must be one name per image, found shape {names.shape}.")
    if impostors < 1 or per_subject < 1:
        raise ConfigError(f"impostors and per_subject must be at least 1, got {impostors} and {per_subject}.")
    numbers = np.unique(names, return_inverse=True)[1]
    sets = [_genuine(numbers, per_subject, rng), _impostors(numbers, np.zeros(len(names), np.int64), impostors, rng)]
    if strata is not None:
        groups = np.asarray(strata)
        if groups.shape != names.shape:
            raise ShapeError(f"strata must be one per image: {names.shape}, found {groups.shape}.")
        sets.append(_impostors(numbers, np.unique(groups, return_inverse=True)[1], impostors, rng))
    first, second = np.concatenate(sets).T
    kind = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    return VerificationPairs(first, second, kind == 0, kind == 2)


def linked_subjects(subjects: ArrayLike) -> NDArray[np.bool_]:
    """Mark the images whose subject has another one; shape (n,)."""
    _, numbers, counts = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    return np.asarray(counts[numbers] > 1)


def held_out_pairs(
    subjects: ArrayLike, rng: np.random.Generator, *, share: float = 0.25
) -> tuple[NDArray[np.bool_], VerificationPairs]:
    """Hold out a share of the linked subjects, and pair their images.

    Parameters
    ----------
    subjects : array_like of shape (n,)
    rng : Generator
    share : float
        In (0, 1); at least two linked subjects are held out and two are left.

    Returns
    -------
    held : ndarray of shape (n,), bool
    pairs : VerificationPairs
        Ten impostors per held-out image; their indices count the held-out images only.

    Raises
    ------
    TooFewSubjectsError
        If fewer than four subjects have two images.
    """
    names = np.asarray(subjects)
    linked = np.unique(names[linked_subjects(names)])
    if len(linked) < 4:
        raise TooFewSubjectsError(
            f"An attacker that learns needs at least four subjects with two images at each choice, found {len(linked)}."
        )
    count = min(max(2, round(share * len(linked))), len(linked) - 2)
    held = np.isin(names, rng.choice(linked, count, replace=False))
    return held, verification_pairs(names[held], rng, 10 * int(held.sum()))


def _genuine(numbers: NDArray[np.int64], cap: int, rng: np.random.Generator) -> NDArray[np.int64]:
    found = []
    for images in _members(numbers):
        one, other = np.triu_indices(len(images), k=1)
        kept = rng.choice(len(one), cap, replace=False) if len(one) > cap else np.arange(len(one))
        found.append(np.column_stack([images[one[kept]], images[other[kept]]]))
    if sum(len(pairs) > 0 for pairs in found) < 2:
        raise TooFewSubjectsError("Verification needs at least two subjects with two images each, found fewer.")
    return np.concatenate(found)


def _impostors(
    numbers: NDArray[np.int64], strata: NDArray[np.int64], wanted: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw pairs of one stratum and two subjects, uniformly among all such pairs.

    Every unordered pair within a stratum has one number; numbers are drawn without replacement, and those of one
    subject are dropped.
    """
    members = _members(strata)
    ends = np.cumsum([len(images) * (len(images) - 1) // 2 for images in members])
    total = int(ends[-1])
    same = sum(int(c) * (int(c) - 1) // 2 for c in np.unique(numbers + strata * len(numbers), return_counts=True)[1])
    wanted = min(wanted, total - same)
    if wanted < 1:
        raise TooFewSubjectsError("Impostor pairs need two subjects in at least one stratum, found none.")
    drawn = min(total, int(1.2 * wanted * total / (total - same)) + 100)
    while True:
        pairs: NDArray[np.int64] = _decoded(rng.choice(total, drawn, replace=False), members, ends)
        pairs = pairs[numbers[pairs[:, 0]] != numbers[pairs[:, 1]]]
        if len(pairs) >= wanted:
            return pairs[:wanted]
        drawn = min(total, 2 * drawn)


def _decoded(codes: NDArray[np.int64], members: list[NDArray[np.int64]], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the image pairs (m, 2) behind numbers: within a stratum, pair (i, j), i > j, is i (i - 1) / 2 + j."""
    stratum = np.searchsorted(ends, codes, side="right")
    code = codes - np.concatenate([[0], ends])[stratum]
    high = ((1 + np.sqrt(1 + 8 * code)) / 2).astype(np.int64)
    high -= high * (high - 1) // 2 > code
    high += high * (high + 1) // 2 <= code
    low = code - high * (high - 1) // 2
    starts = np.concatenate([[0], np.cumsum([len(images) for images in members])])[stratum]
    images = np.concatenate(members)
    return np.column_stack([images[starts + low], images[starts + high]])


def _members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the images of each group, in order."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
