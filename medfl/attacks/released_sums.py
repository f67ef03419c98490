"""Telling from a site's released sums whether somebody is in them.

The attacker holds the features of a candidate and the arrays of a site's class sums. With fewer samples than
channels the cross products span the samples exactly: a member has no part outside ("span"). Otherwise a member has
the lower leverage ``x' inv(cross) x``, a squared Mahalanobis length, because its own part is in the matrix: h / (1 + h)
against h of a stranger ("leverage"). With many more samples than channels the two come close.
"""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.attributes import percentiles, resampled_area, resampled_subjects
from medfl.errors import ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control

Floats = NDArray[np.float64]
_EMPTY = 1e-9
_RIDGE = 1e-3
_FOUND = 0.9
_HIGHEST_Z = 2.576
_WIDTH = 2 * 1.959963984540054


def evaluate_released_sums(
    sums: Mapping[str, Floats],
    candidates: Floats,
    is_member: ArrayLike,
    subjects: ArrayLike,
    *,
    setting: str = "",
    seed: int,
    draws: int = 1000,
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    """Test candidates for being in released class sums; a subject's score is the mean over its samples.

    Parameters
    ----------
    sums : mapping
        "counts" (K,), "subjects" (K,), "sums" (K, C) and "cross" (C, C), as released.
    candidates : ndarray of shape (m, C)
        Features in the units of the sums.
    is_member : array_like of shape (m,), bool
        Equal for all samples of a subject.
    subjects : array_like of shape (m,)
    setting : str
        What tells this release from others, for example "exact".
    seed, draws : int
        Of the bootstrap over subjects.

    Returns
    -------
    results : tuple of AttackResult
        "leverage", and "span" where `cross` is singular. Both need no training.
    controls : tuple of Control
        "positive": the same on exact cross products of half the members, at most C / 2 of their samples and C / 8 of
        one, against the strangers; fails where all features lie in one small space, and then no span attack can be
        judged. "null": strangers, half of them called members by chance.

    Raises
    ------
    ShapeError
        If arrays do not fit together, are not finite, or a subject is member and stranger.
    TooFewSubjectsError
        If there are fewer than four members or four strangers.
    """
    values, members, owners = _checked(sums, candidates, is_member, subjects)
    cross = np.asarray(sums["cross"], dtype=np.float64)
    counts = resampled_subjects(len(members), draws, np.random.default_rng(seed))
    numbers = np.arange(len(members))
    results = []
    attacks = {"leverage": _leverage, "span": _outside}
    rank = _rank(cross)
    strangers = np.zeros(0)
    for name, attack in attacks.items():
        began = time.perf_counter()
        if name == "span" and rank == len(cross):
            continue
        scores = -_per_subject(attack(cross, values), owners)
        seconds = time.perf_counter() - began
        strangers = scores[~members] if name == "leverage" else strangers
        value, drawn = resampled_area(scores, members, numbers, counts)
        low, high = percentiles(drawn)
        results.append(
            AttackResult(
                family="released sums",
                name=name,
                knowledge="sums",
                setting=setting,
                value=value,
                ci_low=low,
                ci_high=high,
                subjects=len(members),
                positives=int(members.sum()),
                negatives=int((~members).sum()),
                attacker_subjects=0,
                budget=f"rank {rank} of {len(cross)} channels, {float(np.sum(sums['counts'])):.0f} samples",
                seconds=seconds,
            )
        )
    rng = np.random.default_rng(seed + 1)
    return tuple(results), (
        _positive(values, members, owners, draws, rng),
        _null(strangers, draws, rng),
    )


def _rank(cross: Floats) -> int:
    spectrum = np.linalg.eigvalsh(cross)
    return int((spectrum > _EMPTY * spectrum[-1]).sum())


def _outside(cross: Floats, values: Floats) -> Floats:
    """Return the share of each sample's length that lies outside the space that `cross` spans, (m,)."""
    spectrum, vectors = np.linalg.eigh(cross)
    rest = vectors[:, spectrum <= _EMPTY * spectrum[-1]]
    lengths = np.maximum(np.linalg.norm(values, axis=1), np.finfo(np.float64).tiny)
    return np.asarray(np.linalg.norm(values @ rest, axis=1) / lengths)


def _leverage(cross: Floats, values: Floats) -> Floats:
    """Return x' inv(cross + ridge) x, (m,); the ridge is a thousandth of the mean eigenvalue."""
    ridge = _RIDGE * float(np.trace(cross)) / len(cross) + np.finfo(np.float64).tiny
    return np.asarray((values * np.linalg.solve(cross + ridge * np.eye(len(cross)), values.T).T).sum(axis=1))


def _per_subject(scores: Floats, owners: NDArray[np.int64]) -> Floats:
    return np.asarray(np.bincount(owners, weights=scores) / np.bincount(owners))


def _positive(
    values: Floats, members: NDArray[np.bool_], owners: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> Control:
    inside = rng.permutation(np.flatnonzero(members))[: max(2, int(members.sum()) // 2)]
    rows = np.flatnonzero(np.isin(owners, inside))
    used: list[int] = []
    for subject in inside:
        own = rows[owners[rows] == subject][: max(1, values.shape[1] // 8)].tolist()
        if used and len(used) + len(own) > values.shape[1] // 2:
            break
        used += own
    judged = ~members
    judged[np.unique(owners[used])] = True
    chosen = values[used]
    # of a member with many samples only those in the sums count
    counted = np.isin(np.arange(len(values)), used) | ~members[owners]
    outside = np.where(counted, _outside(chosen.T @ chosen, values), 0.0)
    sizes = np.bincount(owners, weights=counted)
    scores = -(np.bincount(owners, weights=outside) / np.maximum(sizes, 1))[judged]
    counts = resampled_subjects(len(scores), draws, rng)
    value, drawn = resampled_area(scores, members[judged], np.arange(len(scores)), counts)
    low, high = percentiles(drawn)
    return Control(
        family="released sums",
        kind="positive",
        name="exact sums of few samples",
        value=value,
        ci_low=low,
        ci_high=high,
        expected=f"the interval lies above {_FOUND}",
        passed=low > _FOUND,
    )


def _null(scores: Floats, draws: int, rng: np.random.Generator) -> Control:
    called = rng.permutation(len(scores)) < len(scores) // 2
    counts = resampled_subjects(len(scores), draws, rng)
    value, drawn = resampled_area(scores, called, np.arange(len(scores)), counts)
    low, high = percentiles(drawn)
    return Control(
        family="released sums",
        kind="null",
        name="strangers against strangers",
        value=value,
        ci_low=low,
        ci_high=high,
        expected="within 2.58 standard errors of 0.5",
        passed=abs(value - 0.5) < _HIGHEST_Z * max((high - low) / _WIDTH, 1e-12),
    )


def _checked(
    sums: Mapping[str, Floats], candidates: Floats, is_member: ArrayLike, subjects: ArrayLike
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Return candidates, who is a member per subject, and the number of each candidate's subject."""
    if not {"counts", "cross"} <= set(sums):
        raise ShapeError("class sums must hold the arrays counts and cross, found others.")
    values, flags = np.asarray(candidates, dtype=np.float64), np.asarray(is_member, dtype=np.bool_)
    channels = len(sums["cross"])
    if values.ndim != 2 or values.shape[1] != channels or sums["cross"].shape != (channels, channels):
        raise ShapeError(f"candidates must be (m, C) with cross (C, C): {values.shape} and {sums['cross'].shape}.")
    if flags.shape != (len(values),) or np.shape(subjects) != flags.shape:
        raise ShapeError("every candidate needs one subject and must be a member or not.")
    if not np.isfinite(values).all() or not np.isfinite(sums["cross"]).all():
        raise ShapeError("candidates and cross must be finite; found NaN or infinity.")
    owners = np.unique(np.asarray(subjects), return_inverse=True)[1].astype(np.int64)
    share = _per_subject(flags.astype(np.float64), owners)
    if ((share > 0) & (share < 1)).any():
        raise ShapeError("a subject must be a member or a stranger, found one that is both.")
    members = share == 1
    if min(int(members.sum()), int((~members).sum())) < 4:
        raise TooFewSubjectsError("Released sums are judged on at least four members and four strangers, found fewer.")
    return values, members, owners
