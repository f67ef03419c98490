"""Attackers that compare features by distance, by angle or along linear discriminants."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.feature_views import View, dot, flattened, normalized, pooled, whitening
from medfl.attacks.pairs import Features, Floats, Scorer, held_out_pairs
from medfl.attacks.shrunken_lda import covariance_within
from medfl.results.attack import Knowledge

_COMPONENTS = 256
_SHRINKAGES = (0.01, 0.1, 0.5)


@dataclass(frozen=True)
class CosineAttacker:
    """Cosine of pooled features around the mean of the attacker's own."""

    name: ClassVar[str] = "cosine"
    knowledge: ClassVar[Knowledge] = "naive"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Take the mean; `subjects` are not used."""
        mean = pooled(features).mean(axis=0)
        return Scorer(lambda values: normalized(pooled(values) - mean), dot)


@dataclass(frozen=True)
class EuclidAttacker:
    """Negative distance of pooled features."""

    name: ClassVar[str] = "euclid"
    knowledge: ClassVar[Knowledge] = "naive"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Learn nothing."""
        return Scorer(pooled, lambda first, second: -np.linalg.norm(first - second, axis=1))


@dataclass(frozen=True)
class LdaAttacker:
    """Whitened principal components turned to where subjects differ most from themselves.

    Pairs are scored by a weighted cosine or by the likelihood ratio of the two-covariance model (Ioffe 2006, "PLDA").
    Held-out subjects choose the number of components, the shrinkage of the covariance within subjects, unit length or
    not, equal scales or not, the score and, for maps, pooled or all positions; then all subjects are used.

    Parameters
    ----------
    seed : int
        Decides which subjects are held out.
    """

    seed: int = 0
    name: ClassVar[str] = "lda"
    knowledge: ClassVar[Knowledge] = "re-trained"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Choose on held-out subjects, then fit on all."""
        names = np.asarray(subjects)
        held, pairs = held_out_pairs(names, np.random.default_rng(self.seed))
        best = -1.0
        chosen: tuple[View, bool, int, bool, float, bool] = (pooled, False, _COMPONENTS, False, 0.1, False)
        views: tuple[View, ...] = (pooled,) if features.ndim == 2 else (pooled, flattened)
        for view, scaled in product(views, (False, True)):
            values = view(features)
            if scaled and values.shape[1] <= _COMPONENTS:
                continue  # whitening all there is undoes any scale
            white = whitening(values[~held], _COMPONENTS, scaled=scaled)
            seen, unseen = white(values[~held]), white(values[held])
            sizes = sorted({min(size, seen.shape[1]) for size in (32, 64, 128, _COMPONENTS)})
            for size, unit in product(sizes, (False, True)):
                for (shrinkage, cosine), scorer in _lda(seen, names[~held], size, unit, _SHRINKAGES).items():
                    area = scorer.area(unseen, pairs)
                    if area > best:
                        best, chosen = area, (view, scaled, size, unit, shrinkage, cosine)
        view, scaled, size, unit, shrinkage, cosine = chosen
        white = whitening(view(features), _COMPONENTS, scaled=scaled)
        inner = _lda(white(view(features)), names, size, unit, (shrinkage,))[shrinkage, cosine]
        return Scorer(lambda values: inner.embed(white(view(values))), inner.compare)


def _lda(
    white: Floats, names: NDArray[Any], size: int, unit: bool, shrinkages: Sequence[float]
) -> dict[tuple[float, bool], Scorer]:
    """Fit to the first `size` whitened components, by shrinkage and whether the score is a cosine."""

    def lengths(new: Features) -> Features:
        return np.sqrt(size) * normalized(new[:, :size]) if unit else new[:, :size]

    values = np.asarray(lengths(white), dtype=np.float64)
    variances, vectors = np.linalg.eigh(covariance_within(values, names))
    across = (values @ vectors).var(axis=0)
    found: dict[tuple[float, bool], Scorer] = {}
    for shrinkage in shrinkages:  # towards equal variances, which turns nothing
        shrunken = (1 - shrinkage) * np.maximum(variances, 0) + shrinkage * variances.mean() + 1e-12
        found |= _two_scores(lengths, vectors / np.sqrt(shrunken), across / shrunken, shrinkage)
    return found


def _two_scores(lengths: View, turned: Floats, variances: Floats, shrinkage: float) -> dict[tuple[float, bool], Scorer]:
    """With unit variance within subjects, `between` is what is left of all variance."""
    between = np.maximum(variances - 1, 1e-3)
    weights = between / (2 * between + 1)
    square = ((between + 1) / (2 * between + 1) - 1 / (between + 1)) / 2
    likelihood = Scorer(lambda new: lengths(new) @ turned, lambda a, b: (a * b) @ weights - (a * a + b * b) @ square)
    cosine = Scorer(lambda new: normalized(lengths(new) @ (turned * np.sqrt(weights))), dot)
    return {(shrinkage, False): likelihood, (shrinkage, True): cosine}
