"""Whose image a reconstruction is: candidates in the order in which they fit it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.image_decoders import Components
from medfl.attacks.pairs import Floats

_COMPONENTS = (4, 8, 16, 32, 64, 128, 256)

Compare = Callable[[Floats, Floats], Floats]
"""Reconstructions (m, H, W) and candidates (p, H, W) to (m, p); higher fits better."""


@dataclass(frozen=True, eq=False)
class Likelihood:
    """How well a reconstruction fits candidate images, for somebody who knows which details decoders get right.

    The logarithm of ``p(image | reconstruction) / p(image)``, up to a factor, both normal and independent along the
    first principal components of the attacker's images: by Bayes it puts candidates in the order of their probability
    to be the original.

    Attributes
    ----------
    basis : Components
    error : ndarray of shape (k,)
        Variance of reconstructions around originals on held-out subjects of the attacker, at most that of images.
    """

    basis: Components
    error: Floats

    def __call__(self, found: Floats, candidates: Floats) -> Floats:
        """Return (m, p) for reconstructions (m, H, W) and candidates (p, H, W)."""
        guess, there = (self.basis.scores(one.reshape(len(one), -1)) for one in (found, candidates))
        precise, broad = 1 / self.error, 1 / self.basis.spread**2
        own = (there**2 * (broad - precise)).sum(axis=1)
        return np.asarray(own + 2 * (guess * precise) @ there.T - ((guess**2) @ precise)[:, None])


def named_first(found: Floats, originals: Floats, compare: Compare, gallery: int, seed: int) -> Floats:
    """Whether each reconstruction fits its own original best among `gallery` of the originals, ties shared.

    Parameters
    ----------
    found, originals : ndarray of shape (m, H, W)
        One per subject.
    compare : callable
        Reconstructions (m, H, W) and candidates (p, H, W) to (m, p); higher fits better.
    gallery : int
        In [1, m].
    seed : int
        Of the subjects that share a gallery.

    Returns
    -------
    ndarray of shape (m,)
        In [0, 1].
    """
    hits = np.zeros(len(found))
    for members, others in _galleries(len(found), gallery, seed):
        candidates = np.concatenate([members, others])
        fits = compare(found[members], originals[candidates])
        first = fits >= fits.max(axis=1, keepdims=True) - 1e-9 * np.abs(fits).max(initial=1e-300)
        hits[members] = np.diag(first[:, : len(members)]) / first.sum(axis=1)
    return hits


def correlation(prior: Floats) -> Compare:
    """Return a comparison by the correlation of what differs from the prior (H, W)."""

    def compare(found: Floats, candidates: Floats) -> Floats:
        one, other = (_unit(part - prior) for part in (found, candidates))
        return np.asarray(one @ other.T)

    return compare


def best_comparison(
    basis: Components, prior: Floats, found: Floats, originals: Floats, names: NDArray[np.str_], gallery: int, seed: int
) -> tuple[Compare, float]:
    """Choose between correlation and likelihoods of 4 to 256 components on the attacker's own held-out subjects.

    Errors come from one half of these subjects where the other half is named.

    Parameters
    ----------
    basis : Components
        Of images of other subjects.
    prior : ndarray of shape (H, W)
    found, originals : ndarray of shape (n, H, W)
        Reconstructions of the held-out images, and these images.
    names : ndarray of shape (n,)
        Their subjects, two or more.
    gallery : int
        Most candidates.
    seed : int

    Returns
    -------
    compare : callable
    share : float
        Of the held-out subjects that it names.
    """
    drawn = one_each(names, np.ones(len(names), dtype=bool), seed)
    second = np.isin(names, names[drawn[::2]])

    def named(make: Callable[[NDArray[np.bool_]], Compare]) -> float:
        hits = []
        for half in (second, ~second):
            asked = drawn[half[drawn]]
            size = min(gallery, len(asked))
            hits.append(named_first(found[asked], originals[asked], make(~half), size, seed))
        return float(np.concatenate(hits).mean())

    def likelihood(most: int) -> Callable[[NDArray[np.bool_]], Compare]:
        return lambda kept: _likelihood(basis, found[kept], originals[kept], most)

    offered = [lambda kept: correlation(prior), *(likelihood(most) for most in _COMPONENTS)]
    shares = [named(make) for make in offered]
    at = int(np.argmax(shares))
    return offered[at](np.ones(len(names), dtype=bool)), shares[at]


def one_each(names: NDArray[np.str_], kept: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return the index of one image, drawn, of each subject."""
    shuffled = np.random.default_rng(seed + 2).permutation(np.flatnonzero(kept))
    return np.asarray(shuffled[np.unique(names[shuffled], return_index=True)[1]], dtype=np.int64)


def _galleries(count: int, size: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield who is looked for, everybody once, and who else is in the gallery so that it has its size."""
    order = np.random.default_rng(seed + 3).permutation(count)
    for start in range(0, count, size):
        members = order[start : start + size]
        yield members, order[: size - len(members)]


def _likelihood(basis: Components, found: Floats, originals: Floats, most: int) -> Likelihood:
    """Return the likelihood from the first components, with the errors of reconstructions of known originals."""
    first = Components(basis.mean, basis.axes[:, :most], basis.spread[:most])
    wrong = (found - originals).reshape(len(found), -1) @ first.axes
    return Likelihood(first, np.clip((wrong**2).mean(axis=0), 1e-6 * first.spread**2, first.spread**2))


def _unit(images: Floats) -> Floats:
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
