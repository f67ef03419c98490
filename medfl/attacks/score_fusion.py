"""An attacker that adds up the scores of several, each as far as it has proved itself on held-out subjects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from medfl.attacks.feature_views import View, flattened, pooled, rooted
from medfl.attacks.network_attackers import SiameseAttacker
from medfl.attacks.pairs import Features, Floats, Scorer, held_out_pairs, linked_subjects
from medfl.attacks.shrunken_lda import shrunken_lda
from medfl.attacks.statistics import auc
from medfl.results.attack import Knowledge

_SHRINKAGES = (0.02, 0.1, 0.5)
_PENALTY = 1e-3
_LEAST_FOR_NETWORK = 4


@dataclass(frozen=True)
class FusionAttacker:
    """Shrunken discriminants of the features and of their roots, and a siamese network, in one weighted sum.

    Held-out subjects choose each shrinkage and the weights; then the discriminants learn from all subjects. The
    network, slow and of little weight, stays as it is; with fewer than four linked subjects to learn from there is
    none. Maps are also taken position by position.

    Parameters
    ----------
    seed : int
        Of held-out subjects and of the network.
    """

    seed: int = 0
    name: ClassVar[str] = "fusion"
    knowledge: ClassVar[Knowledge] = "re-trained"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Choose and weigh on held-out subjects, then fit on all."""
        names = np.asarray(subjects)
        held, pairs = held_out_pairs(names, np.random.default_rng(self.seed))
        views: tuple[View, ...] = (pooled, rooted) if features.ndim == 2 else (pooled, rooted, flattened)
        scores, members = [], []
        for view in views:
            values = view(features)
            tried = [
                one.of_pairs(values[held], pairs) for one in shrunken_lda(values[~held], names[~held], _SHRINKAGES)
            ]
            best = int(np.argmax([auc(one[pairs.is_same], one[~pairs.is_same]) for one in tried]))
            scores.append(tried[best])
            members.append(_seen_through(view, shrunken_lda(values, names, _SHRINKAGES[best : best + 1])[0]))
        left = names[~held]
        if len(np.unique(left[linked_subjects(left)])) >= _LEAST_FOR_NETWORK:
            members.append(SiameseAttacker(self.seed).fit(features[~held], left))
            scores.append(members[-1].of_pairs(features[held], pairs))
        return _weighted_sum(members, fusion_weights(np.column_stack(scores), pairs.is_same), features[:1])


def fusion_weights(scores: Floats, is_same: NDArray[np.bool_]) -> Floats:
    """Fit weights of a sum of scores: logistic regression, no weight under 0, both kinds of pairs weighing the same.

    Parameters
    ----------
    scores : ndarray of shape (m, K)
        Of held-out pairs by K attackers, higher where they look like one person.
    is_same : ndarray of shape (m,), bool
        Pairs of both kinds.

    Returns
    -------
    ndarray of shape (K,)
        For scores as they are. An attacker whose score never changes weighs 0; where nobody is worth a weight, all
        weigh the same in standard deviations of impostors.
    """
    spread = scores[~is_same].std(axis=0)
    varies = spread > 1e-9 * np.maximum(np.abs(scores).max(axis=0), 1e-30)
    scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    inputs = (scores - scores[~is_same].mean(axis=0)) * scale
    signs = np.where(is_same, 1.0, -1.0)
    shares = np.where(is_same, 0.5 / is_same.sum(), 0.5 / (~is_same).sum())

    def loss(values: Floats) -> tuple[float, Floats]:
        margins = signs * (inputs @ values[:-1] + values[-1])
        slopes = -signs * shares / (1 + np.exp(np.clip(margins, -500, 500)))
        gradient = np.append(inputs.T @ slopes + _PENALTY * values[:-1], slopes.sum())
        return float(shares @ np.logaddexp(0, -margins) + _PENALTY / 2 * values[:-1] @ values[:-1]), gradient

    count = scores.shape[1]
    bounds = [(0.0, None)] * count + [(None, None)]
    found = minimize(loss, np.zeros(count + 1), jac=True, method="L-BFGS-B", bounds=bounds).x[:-1]
    return np.asarray((found if found.any() else np.ones(count)) * scale, dtype=np.float64)


def _seen_through(view: View, scorer: Scorer) -> Scorer:
    return Scorer(lambda new: scorer.embed(view(new)), scorer.compare)


def _weighted_sum(members: Sequence[Scorer], weights: Floats, example: Features) -> Scorer:
    """Return one scorer whose vectors are those of all members, side by side."""
    widths = [member.embed(example).shape[1] for member in members]
    ends = np.cumsum(widths)[:-1]

    def compare(first: Floats, second: Floats) -> Floats:
        parts = zip(members, np.split(first, ends, axis=1), np.split(second, ends, axis=1), strict=True)
        scores = np.column_stack([member.compare(a, b) for member, a, b in parts])
        return np.asarray(scores @ weights, dtype=np.float64)

    return Scorer(lambda new: np.concatenate([member.embed(new) for member in members], axis=1), compare)
