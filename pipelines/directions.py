"""The hub learns which directions of the features the task needs."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medfl.config.privacy import BottleneckStage
from medfl.config.settings import Config
from medfl.errors import PrivacyError, ReplyError
from medfl.federation.feature_hub import FeatureHub
from medfl.federation.program import Arrays
from medfl.privacy.class_sums import ClassSums, joined
from medfl.privacy.directions import Directions, choose_k, fit_directions
from medfl.privacy.saturation import Reach
from pipelines.feature_program import CANDIDATE
from pipelines.minimization import Minimization, minimization
from pipelines.protection import Cut
from pipelines.samples import sample_classes

_RIDGE = 1e-3


def learn_directions(hub: FeatureHub, config: Config, cut: Cut) -> Minimization | None:
    """Return what the bottleneck keeps; None where the plan has no bottleneck.

    With several candidates every site counts on its validation studies how often a linear classifier behind each of
    them is right; the smallest within the plan's tolerance of the best balanced accuracy is taken.

    Raises
    ------
    PrivacyError
        If no site can answer, for example because each has too few subjects of a class.
    """
    stage = config.protection.minimize
    if not isinstance(stage, BottleneckStage):
        return None
    channels, classes = cut.shape[0], sample_classes(config)
    if stage.learn == "site":
        return _from_one_site(hub, stage, channels)
    found = hub.sums(_empty(ClassSums.zeros(classes, channels).to_arrays()), ClassSums.from_arrays)
    total = joined([ClassSums.from_arrays(arrays) for arrays in found.arrays.values()])
    whole = fit_directions(total, stage.directions[-1], method=stage.method, components=stage.components)
    if len(stage.directions) == 1:
        return minimization(total, whole, stage.saturate)
    fitted = {k: whole.first(k) for k in stage.directions}
    candidates: Arrays = {}
    for k, directions in fitted.items():
        weights, bias = discriminant(total, directions)
        candidates |= {f"{CANDIDATE}{k}/weights": weights, f"{CANDIDATE}{k}/bias": bias}
    expected: Arrays = {"right": np.zeros((len(fitted), classes)), "counts": np.zeros(classes)}
    answers = hub.choose(candidates, expected, _check_counts)
    right = np.sum([arrays["right"] for arrays in answers.arrays.values()], axis=0)
    counts = np.sum([arrays["counts"] for arrays in answers.arrays.values()], axis=0)
    seen = counts > 0
    if not seen.any():
        raise PrivacyError("The validation studies must hold at least one class; the sites counted none.")
    scores = (right[:, seen] / counts[seen]).mean(axis=1)
    chosen = choose_k(sorted(fitted), [float(score) for score in scores], tolerance=stage.tolerance)
    return minimization(total, fitted[chosen], stage.saturate)


def discriminant(sums: ClassSums, directions: Directions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the linear discriminant behind the directions, from sums alone.

    Equal covariance within classes, equal priors (Fisher 1936; Hastie, Tibshirani and Friedman 2009, 4.3).

    Parameters
    ----------
    sums : ClassSums
    directions : Directions

    Returns
    -------
    weights : ndarray of shape (K, C)
    bias : ndarray of shape (K,)
        The class of a feature x is the argmax of ``weights @ x + bias``; classes nobody has get a bias of -1e30.
    """
    matrix, mean = directions.matrix, directions.mean
    present = sums.counts > 0
    centers = np.where(present[:, None], sums.sums / np.maximum(sums.counts, 1)[:, None], 0.0) - mean
    projected = centers @ matrix.T
    shifted = sums.cross / sums.counts.sum() - np.outer(mean, mean)
    total = matrix @ shifted @ matrix.T
    shares = sums.counts / sums.counts.sum()
    between = (projected * shares[:, None]).T @ projected
    within = total - between
    within += _RIDGE * np.trace(total) / len(total) * np.eye(len(total))
    solved = np.linalg.solve(within, projected.T).T
    weights = solved @ matrix
    bias = -0.5 * (solved * projected).sum(axis=1) - weights @ mean
    return weights, np.where(present, bias, -1e30)


def _from_one_site(hub: FeatureHub, stage: BottleneckStage, channels: int) -> Minimization:
    k = stage.directions[0]
    reach = None if stage.saturate is None else Reach(np.zeros(k), np.ones(k))
    expected = Minimization(Directions(np.zeros(channels), np.zeros((k, channels))), reach).to_arrays()
    answers = hub.sums(expected, Minimization.from_arrays)
    if stage.site not in answers.arrays:
        raise PrivacyError(
            f"{stage.site} must learn the directions; it did not: {answers.missing.get(stage.site, '')}."
        )
    found = Minimization.from_arrays(answers.arrays[stage.site])
    assert found is not None  # names were checked
    return found


def _check_counts(arrays: Arrays) -> None:
    right, counts = arrays["right"], arrays["counts"]
    if (right < 0).any() or (right > counts).any():
        raise ReplyError("count", "right answers must be between none and all of the studies")


def _empty(arrays: Mapping[str, NDArray[np.float64]]) -> Arrays:
    return {name: np.zeros_like(array) for name, array in arrays.items()}
