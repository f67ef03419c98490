"""How large epsilon of a training is at least, seen from the final model alone.

The candidates are subjects, each of which was trained on or left out by its own fair coin. What the model loses on them
is all that the attacker sees, so the bound is far below that of `medfl.privacy.canaries`, who see every step.
"""

import numpy as np
from numpy.typing import ArrayLike

from medfl.attacks.one_run_audit import one_run_bound, one_run_gaussian_bound
from medfl.attacks.privacy_audit import CONFIDENCE, EpsilonBound
from medfl.errors import ShapeError


def black_box_bounds(
    losses: ArrayLike,
    included: ArrayLike,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
    reference_losses: ArrayLike | None = None,
) -> tuple[EpsilonBound, EpsilonBound]:
    """Bound epsilon from how little the final model loses on those who were included.

    Parameters
    ----------
    losses : array_like of shape (m,)
        Of each candidate under the final model, the mean over its studies; finite.
    included : array_like of shape (m,), bool
        By independent fair coins, tossed for this audit before training.
    delta : float
        In [0, 1).
    confidence : float
        Of each bound alone, in (0, 1).
    reference_losses : array_like of shape (m,) or None
        Under a model that saw none of the candidates, such as the one before training. A candidate that every model
        finds hard then counts by what training changed.

    Returns
    -------
    (EpsilonBound, EpsilonBound)
        Of `one_run_bound` and of `one_run_gaussian_bound`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    ShapeError
        If shapes do not fit or losses are not finite.
    """
    scores = -np.asarray(losses, dtype=np.float64)
    if reference_losses is not None:
        reference = np.asarray(reference_losses, dtype=np.float64)
        if reference.shape != scores.shape:
            raise ShapeError(
                f"every candidate needs a loss under both models, found shapes {scores.shape} and {reference.shape}."
            )
        scores = scores + reference
    plain = one_run_bound(scores, included, delta=delta, confidence=confidence)
    return plain, one_run_gaussian_bound(scores, included, delta=delta, confidence=confidence)
