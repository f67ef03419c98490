"""Linkage across keys: one study of a person under key A, another study of the same person under key B.

Three attackers: one compares what it sees, one knows some images under both keys and maps one set to the other, one
compares what no orthogonal mixing of channels and no permutation of positions can change.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.feature_inversion import (
    ESTIMATORS,
    KNOWN_IMAGES,
    aligned_rows,
    held_out_explained,
    known_and_strangers,
    possible_counts,
)
from medfl.attacks.pairs import Features, Floats, verification_pairs
from medfl.attacks.statistics import AucInterval, cluster_bootstrap_auc
from medfl.errors import ShapeError
from medfl.results.attack import AttackResult, Knowledge, Measure

_QUANTILES = 64


@dataclass(frozen=True, eq=False)
class _Attack:
    """Both sets of strangers as vectors, to be compared by cosine or by distance."""

    name: str
    knowledge: Knowledge
    setting: str
    first: Floats
    second: Floats
    by_cosine: bool
    seconds: float
    attacker_subjects: int = 0
    known: int = 0
    budget: str = ""

    def scores(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> Floats:
        if self.by_cosine:
            return np.asarray((_directions(self.first)[one] * _directions(self.second)[other]).sum(axis=1))
        return np.asarray(-np.linalg.norm(self.first[one] - self.second[other], axis=1))


def evaluate_linkage(
    first: Features,
    second: Features,
    subjects: ArrayLike,
    *,
    seed: int,
    draws: int = 1000,
    anchors: Sequence[int] = (4, 16, 64, 256),
    impostors: int = 20_000,
) -> tuple[AttackResult, ...]:
    """Link strangers across two keys.

    Parameters
    ----------
    first, second : ndarray of shape (n, D) or (n, C, *spatial)
        The same studies in the same order, released under two keys. Maps are averaged over positions, but for
        invariants; hand in flattened ones to map positions too.
    subjects : array_like of shape (n,)
    seed : int
        Equal seeds give equal results, but for `seconds`.
    draws : int
        Draws of subjects for the intervals.
    anchors : sequence of int
        Numbers of images known under both keys, each at least 4; those that half of the subjects cannot give are left
        out.
    impostors : int
        At most so many pairs of studies of two subjects, each taken in both directions.

    Returns
    -------
    tuple of AttackResult
        All on the same strangers and pairs; none of them is an anchor. "same_image_auc" asks whether one study is
        linked with itself. A key may turn every sign round, so the naive cosine counts whichever way it links: an area
        under 0.5 is given as 1 minus it, "turned round". Anchored rows use ridge or Procrustes, whichever did better
        on anchors that were held out; their `budget` says which. Rows of invariants are several views of one attacker,
        and none is chosen here.

    Raises
    ------
    ShapeError
        If arrays do not fit together or are not finite.
    ConfigError
        If a number of anchors is under 4.
    TooFewSubjectsError
        If fewer than four subjects have two images, or there are fewer anchors than the smallest number.
    """
    if first.shape != second.shape:
        raise ShapeError(f"Both sets must have one shape, found {first.shape} and {second.shape}.")
    names = aligned_rows(subjects, first, second)[0]
    order, strangers = known_and_strangers(names, np.random.default_rng(seed))
    counts = possible_counts(anchors, len(order))
    who = names[strangers]
    pairs = verification_pairs(who, np.random.default_rng(seed), impostors)
    one, other = np.concatenate([pairs.first, pairs.second]), np.concatenate([pairs.second, pairs.first])
    is_impostor = who[one] != who[other]
    everyone = np.arange(len(who))
    one_image = np.concatenate([everyone, one[is_impostor]]), np.concatenate([everyone, other[is_impostor]])
    results = []
    for attack in _attacks(first, second, names, order, strangers, counts):
        found = cluster_bootstrap_auc(
            attack.scores(one, other), who[one], who[other], draws, np.random.default_rng(seed)
        )
        same = cluster_bootstrap_auc(
            attack.scores(*one_image), who[one_image[0]], who[one_image[1]], draws, np.random.default_rng(seed)
        )
        turned = attack.knowledge == "naive" and attack.by_cosine and found.value < 0.5
        if turned:
            found, same = _mirrored(found), _mirrored(same)
        results.append(
            AttackResult(
                family="linkage",
                name=attack.name,
                knowledge=attack.knowledge,
                setting="turned round" if turned else attack.setting,
                value=found.value,
                ci_low=found.low,
                ci_high=found.high,
                subjects=found.subjects,
                positives=found.genuine_pairs,
                negatives=found.impostor_pairs,
                attacker_subjects=attack.attacker_subjects,
                further=(
                    Measure(name="same_image_auc", value=same.value, ci_low=same.low, ci_high=same.high, chance=0.5),
                    *([Measure(name=KNOWN_IMAGES, value=attack.known)] if attack.known else []),
                ),
                budget=attack.budget,
                seconds=attack.seconds,
            )
        )
    return tuple(results)


def key_free_invariants(features: Features) -> dict[str, Floats]:
    """Describe each image by what a key of channel mixing and permutation leaves as it is, or nearly so.

    Parameters
    ----------
    features : ndarray of shape (n, D) or (n, C, *spatial)

    Returns
    -------
    dict of str to ndarray of shape (n, k)
        "norm" and "values" (quantiles and moments of all values, unchanged by permutations alone); of maps also
        "singular values" of C x S, "position norms", sorted, and "channel moments", sorted mean and deviation.
    """
    values = np.asarray(features, dtype=np.float64).reshape(len(features), features.shape[1], -1)
    flat = values.reshape(len(values), -1)
    found = {"norm": _log(np.linalg.norm(flat, axis=1, keepdims=True)), "values": _distribution(flat)}
    if values.shape[2] > 1:
        moments = np.concatenate([np.sort(values.mean(axis=2), axis=1), np.sort(values.std(axis=2), axis=1)], axis=1)
        found["singular values"] = _log(np.asarray(np.linalg.svd(values, compute_uv=False), dtype=np.float64))
        found["position norms"] = np.sort(_log(np.linalg.norm(values, axis=1)), axis=1)
        found["channel moments"] = moments
    return found


def _attacks(
    first: Features,
    second: Features,
    names: NDArray[np.str_],
    order: NDArray[np.int64],
    strangers: NDArray[np.int64],
    counts: Sequence[int],
) -> Iterator[_Attack]:
    one, other = _averaged(first), _averaged(second)
    yield _Attack("cross-key cosine", "naive", "", one[strangers], other[strangers], by_cosine=True, seconds=0.0)
    for count in counts:
        began = time.perf_counter()
        own = order[:count]
        judged = [held_out_explained(fit, one[own], other[own], names[own]) for _, fit in ESTIMATORS]
        estimator, fit = ESTIMATORS[int(np.argmax(judged))]
        mapped = fit(one[own], other[own])(one[strangers])
        yield _Attack(
            "anchored ridge",
            "anchored",
            f"{count} known images",
            mapped,
            other[strangers],
            by_cosine=True,
            seconds=time.perf_counter() - began,
            attacker_subjects=len(np.unique(names[own])),
            known=count,
            budget=f"{count} images known under both keys, {estimator}",
        )
    began = time.perf_counter()
    left, right = key_free_invariants(first[strangers]), key_free_invariants(second[strangers])
    groups = {name: (_standardized(left[name]), _standardized(right[name])) for name in left}
    sides = list(zip(*groups.values(), strict=True))
    groups["all"] = (np.concatenate(sides[0], axis=1), np.concatenate(sides[1], axis=1))
    seconds = time.perf_counter() - began
    for name, (a, b) in groups.items():
        yield _Attack("key-free invariants", "naive", name, a, b, by_cosine=False, seconds=seconds)


def _mirrored(found: AucInterval) -> AucInterval:
    """Return the area of the same attack with its scores turned round."""
    return replace(found, value=1 - found.value, low=1 - found.high, high=1 - found.low)


def _averaged(features: Features) -> Floats:
    values = np.asarray(features, dtype=np.float64)
    return np.asarray(values.reshape(*values.shape[:2], -1).mean(axis=2))


def _directions(values: Floats) -> Floats:
    centered = values - values.mean(axis=0)
    return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-300))


def _standardized(values: Floats) -> Floats:
    """Center and scale each number over the images of one set; the group weighs as much as any other."""
    spread = values.std(axis=0)
    least = 1e-9 * max(float(np.abs(values).max()), 1e-300)
    return np.asarray((values - values.mean(axis=0)) / np.maximum(spread, least) / np.sqrt(values.shape[1]))


def _distribution(flat: Floats) -> Floats:
    mean, spread = flat.mean(axis=1, keepdims=True), np.maximum(flat.std(axis=1, keepdims=True), 1e-300)
    scaled = (flat - mean) / spread
    moments = [mean, _log(spread), (scaled**3).mean(axis=1, keepdims=True), (scaled**4).mean(axis=1, keepdims=True)]
    count = min(_QUANTILES, flat.shape[1])
    return np.concatenate([*moments, np.quantile(flat, np.linspace(0, 1, count), axis=1).T], axis=1)


def _log(values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values, 1e-12)))
