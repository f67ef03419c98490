"""Who is this? Every probe against a gallery, one to many, without ever holding the matrix of scores.

A probe's place is known from how many impostors score over its best mate, and how many tie with it. Ties are broken at
random in expectation: an attacker whose scores are all equal guesses, neither better nor worse.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Compare = Callable[[Floats, Floats], Floats]
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Placings:
    """Where each probe's best mate stands in the gallery.

    Attributes
    ----------
    better, tied : ndarray of shape (p,), int64
        Impostor entries that score over the best mate, or the same.
    mates : ndarray of shape (p,), int64
        Genuine entries at the best genuine score, >= 1.
    impostors : ndarray of shape (p,), int64
        Impostor entries in the gallery.
    """

    better: Ints
    tied: Ints
    mates: Ints
    impostors: Ints

    @property
    def ranks(self) -> Floats:
        """Expected rank (p,) of the best mate, 1 = first; one mate that ties with e impostors stands e / 2 lower."""
        return 1 + self.better + self.tied / (self.mates + 1)


@dataclass(frozen=True)
class RateInterval:
    """A rate with its 95 % percentile interval over draws of subjects, all in [0, 1]."""

    value: float
    low: float
    high: float
    subjects: int


def placings(
    probe: Floats,
    gallery: Floats,
    probe_subjects: ArrayLike,
    gallery_subjects: ArrayLike,
    *,
    compare: Compare | None = None,
    block: int = 512,
) -> Placings:
    """Place the best mate of every probe.

    Parameters
    ----------
    probe : ndarray of shape (p, K)
        Images that are not in the gallery.
    gallery : ndarray of shape (g, K)
    probe_subjects, gallery_subjects : array_like of shapes (p,) and (g,)
        Every probe needs a gallery entry of its subject, and one of another.
    compare : callable or None
        Vectors (m, K) and (m, K) -> scores (m,), higher means "same person"; None takes inner products.
    block : int
        Probes at a time, at least 1; block * g scores are held.

    Returns
    -------
    Placings

    Raises
    ------
    ConfigError
        If `block` is under 1.
    ShapeError
        If shapes do not fit, scores are not finite, or a probe lacks a mate or an impostor.
    """
    parts = []
    for scores, same in _blocks(probe, gallery, probe_subjects, gallery_subjects, compare, block):
        best = np.where(same, scores, -np.inf).max(axis=1, keepdims=True)
        level = scores == best
        impostors = np.count_nonzero(~same, axis=1)
        better = np.count_nonzero((scores > best) & ~same, axis=1)
        parts.append(
            [better, np.count_nonzero(level & ~same, axis=1), np.count_nonzero(level & same, axis=1), impostors]
        )
    better, tied, mates, impostors = np.concatenate(parts, axis=1).astype(np.int64)
    return Placings(better, tied, mates, impostors)


def ranks(
    probe: Floats,
    gallery: Floats,
    probe_subjects: ArrayLike,
    gallery_subjects: ArrayLike,
    *,
    compare: Compare | None = None,
    block: int = 512,
) -> Floats:
    """Return the expected rank of every probe's best mate, 1 = first; parameters and errors are those of `placings`.

    Returns
    -------
    ndarray of shape (p,)
        In [1, g], with fractions where scores tie.
    """
    return placings(probe, gallery, probe_subjects, gallery_subjects, compare=compare, block=block).ranks


def hits(placed: Placings, k: int) -> Floats:
    """Probability, over random breaking of ties, that a mate is among the first k entries.

    Parameters
    ----------
    placed : Placings
    k : int
        At least 1.

    Returns
    -------
    ndarray of shape (p,)
        0 or 1 where nothing ties.

    Raises
    ------
    ConfigError
        If `k` is under 1.
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}.")
    room = np.maximum(k - placed.better, 0)
    return 1 - _at_least(placed.tied, placed.mates, room)


def rank_k(placed: Placings, k: int) -> float:
    """Share of probes with a mate among the first k entries, in [0, 1]: the mean of `hits`."""
    return float(hits(placed, k).mean())


def cmc(placed: Placings, upto: int) -> Floats:
    """Cumulative match characteristic: `rank_k` for k = 1 to `upto`, never falling; shape (upto,)."""
    if upto < 1:
        raise ConfigError(f"upto must be at least 1, got {upto}.")
    return np.array([rank_k(placed, k) for k in range(1, upto + 1)])


def rank_1_at_gallery(placed: Placings, size: int) -> Floats:
    """Probability of a hit at rank 1 in a random gallery of fixed size: the best mate and `size` - 1 impostor entries.

    Rates from galleries of different sizes do not compare; this brings them to one size without drawing galleries. Of N
    impostors b score better: none of them is drawn with probability ``C(N - b, size - 1) / C(N, size - 1)``; ties are
    broken at random.

    Parameters
    ----------
    placed : Placings
        In the full gallery.
    size : int
        At least 1, at most 1 + the impostors of every probe.

    Returns
    -------
    ndarray of shape (p,)

    Raises
    ------
    ConfigError
        If the full gallery is smaller than `size`.
    """
    if not 1 <= size <= 1 + placed.impostors.min():
        raise ConfigError(f"size must be from 1 to {1 + placed.impostors.min()} in this gallery, got {size}.")
    found = np.empty(len(placed.better))
    rows = np.column_stack([placed.better, placed.tied, placed.mates, placed.impostors])
    cases, which = np.unique(rows, axis=0, return_inverse=True)
    for number, (better, tied, mates, impostors) in enumerate(cases):
        under = np.arange(tied + 2)
        weight = -np.diff(_at_least(np.full_like(under, tied), np.full_like(under, mates), under))
        none_drawn = np.exp(
            _log_choose(impostors - better - under[:-1], size - 1) - _log_choose(np.asarray(impostors), size - 1)
        )
        found[which.ravel() == number] = weight @ none_drawn
    return found


def mean_average_precision(
    probe: Floats,
    gallery: Floats,
    probe_subjects: ArrayLike,
    gallery_subjects: ArrayLike,
    *,
    compare: Compare | None = None,
    block: int = 512,
) -> float:
    """Mean over probes of the average precision at each of their mates.

    A mate's position counts every mate up to it, impostors above it, and half of those that tie with it. Parameters and
    errors are those of `placings`.

    Returns
    -------
    float
        In (0, 1]; 1 where all mates come before all impostors.
    """
    precisions = []
    for scores, same in _blocks(probe, gallery, probe_subjects, gallery_subjects, compare, block):
        for row, own in zip(scores, same, strict=True):
            mates, others = np.sort(row[own])[::-1], np.sort(row[~own])
            sides = np.searchsorted(others, mates, side="left") + np.searchsorted(others, mates, side="right")
            before = np.arange(1, len(mates) + 1)
            precisions.append((before / (before + len(others) - sides / 2)).mean())
    return float(np.mean(precisions))


def cluster_bootstrap_rate(hits: ArrayLike, subjects: ArrayLike, draws: int, rng: np.random.Generator) -> RateInterval:
    """Mean of per-probe results, with an interval over draws of subjects.

    Parameters
    ----------
    hits : array_like of shape (p,)
        Booleans, or numbers in [0, 1].
    subjects : array_like of shape (p,)
        At least two distinct ones.
    draws : int
        1,000 or more for a stable interval.
    rng : Generator

    Returns
    -------
    RateInterval
        Of no width where all results are equal: use `medfl.attacks.rates.clopper_pearson` on subjects there.

    Raises
    ------
    ShapeError
        If shapes do not fit, results are out of range or `draws` is under 1.
    TooFewSubjectsError
        If there are fewer than two subjects.
    """
    results, names = np.asarray(hits, dtype=np.float64), np.asarray(subjects)
    if results.ndim != 1 or names.shape != results.shape or not ((results >= 0) & (results <= 1)).all():
        raise ShapeError(f"hits must be in [0, 1] with a subject each; found shapes {results.shape} and {names.shape}.")
    if draws < 1:
        raise ShapeError(f"draws must be at least 1, got {draws}.")
    numbers, probes = np.unique(names, return_inverse=True, return_counts=True)[1:]
    if len(probes) < 2:
        raise TooFewSubjectsError(f"A rate with an interval needs at least two subjects, found {len(probes)}.")
    sums = np.bincount(numbers, weights=results)
    counts = rng.multinomial(len(probes), np.full(len(probes), 1 / len(probes)), size=draws)
    low, high = np.quantile((counts @ sums) / (counts @ probes), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return RateInterval(float(results.mean()), float(low), float(high), len(probes))


def _blocks(
    probe: Floats,
    gallery: Floats,
    probe_subjects: ArrayLike,
    gallery_subjects: ArrayLike,
    compare: Compare | None,
    block: int,
) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """Yield scores (b, g) of some probes, and which entries are their mates."""
    if block < 1:
        raise ConfigError(f"block must be at least 1, got {block}.")
    owners, entries = np.asarray(probe_subjects), np.asarray(gallery_subjects)
    if (
        probe.ndim != 2
        or gallery.ndim != 2
        or probe.shape[1] != gallery.shape[1]
        or owners.shape != probe.shape[:1]
        or entries.shape != gallery.shape[:1]
        or not len(probe)
        or not len(gallery)
    ):
        raise ShapeError(
            "probe (p, K) and gallery (g, K) must hold vectors of one length and a subject each, at least one; found "
            f"{probe.shape}, {gallery.shape} and subjects of shapes {owners.shape}, {entries.shape}."
        )
    for start in range(0, len(probe), block):
        some = probe[start : start + block]
        same = owners[start : start + block, None] == entries
        if not same.any(axis=1).all() or same.all(axis=1).any():
            raise ShapeError("every probe must have at least one mate and one impostor in the gallery.")
        scores = some @ gallery.T if compare is None else _compared(some, gallery, compare, block)
        if not np.isfinite(scores).all():
            raise ShapeError("scores of probes against the gallery must be finite.")
        yield scores, same


def _compared(some: Floats, gallery: Floats, compare: Compare, block: int) -> Floats:
    scores = np.empty((len(some), len(gallery)))
    for row, vector in zip(scores, some, strict=True):
        for start in range(0, len(gallery), block):
            entries = gallery[start : start + block]
            row[start : start + block] = compare(np.tile(vector, (len(entries), 1)), entries)
    return scores


def _at_least(tied: Ints, mates: Ints, room: Ints) -> Floats:
    """Probability that the first `room` of tied impostors and mates in random order are all impostors."""
    fits = room <= tied
    drawn = np.minimum(room, tied)
    return np.where(fits, np.exp(_log_choose(tied, drawn) - _log_choose(tied + mates, drawn)), 0.0)


def _log_choose(n: Ints, k: Ints | int) -> Floats:
    """Logarithm of the binomial coefficient; minus infinity where n < k."""
    some = np.maximum(n, k)
    logs = gammaln(some + 1.0) - gammaln(np.asarray(k) + 1.0) - gammaln(some - k + 1.0)
    return np.where(n >= k, logs, -np.inf)
