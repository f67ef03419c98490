"""AUROC where all cases are in one place, in a simulation or at one site; a federation uses additive sums instead."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError


class CaseAuroc(NamedTuple):
    """Exact area, with a 95 % interval over draws of subjects."""

    value: float
    low: float
    high: float


def case_auroc(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    subjects: Sequence[str],
    *,
    draws: int,
    rng: np.random.Generator,
) -> CaseAuroc:
    """Return the area under the ROC curve; ties count one half.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher means positive.
    positive : ndarray of shape (n,)
    subjects : sequence of str, length n
        Subjects are drawn with replacement, with all of their cases.
    draws : int
        Draws without a positive or a negative case are passed over; without any other draw nothing is known, and the
        interval is [0, 1].
    rng : Generator

    Raises
    ------
    ShapeError
        If lengths differ, or one of the two classes is missing.
    """
    if not len(scores) == len(positive) == len(subjects) or positive.all() or not positive.any():
        raise ShapeError("an AUROC needs one label and one subject per score, and cases of both classes.")
    owner = np.unique(np.asarray(subjects), return_inverse=True)[1].reshape(-1)
    order = np.argsort(scores[~positive], kind="stable")
    negatives = scores[~positive][order]
    left, right = (np.searchsorted(negatives, scores[positive], side=side) for side in ("left", "right"))
    owner_negative, owner_positive = owner[~positive][order], owner[positive]

    def area(counts: NDArray[np.float64]) -> float:
        below = np.concatenate([[0.0], np.cumsum(counts[owner_negative])])
        own = counts[owner_positive]
        total = own.sum() * below[-1]
        return float(own @ (below[left] + below[right]) / (2 * total)) if total else np.nan

    people = int(owner.max()) + 1
    areas = [area(rng.multinomial(people, np.full(people, 1 / people)).astype(np.float64)) for _ in range(draws)]
    drawn = [value for value in areas if not np.isnan(value)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (0.0, 1.0)
    return CaseAuroc(area(np.ones(people)), float(low), float(high))
