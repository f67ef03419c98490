"""Recovery of the positions that a key moved, by somebody who knows a few images both clear and released.

Mixing is the same at every position, so one known image already gives as many equations as it has positions. A first
match compares the norms of positions, which orthogonal mixing keeps; then a map of channels is fitted to matched
positions and they are matched again, until nothing changes.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medfl.attacks.feature_inversion import KNOWN_IMAGES, aligned_rows, fit_ridge
from medfl.attacks.pairs import Features, Floats
from medfl.attacks.statistics import LEVEL
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Measure

MOST_POSITIONS = 4096
"""Of one map; the assignment takes time and memory of their square, and more."""

_ROUNDS = 10


def recover_positions(released: Features, clear: Features) -> NDArray[np.int64]:
    """Match positions of known images.

    Parameters
    ----------
    released, clear : ndarray of shape (n, C, *spatial)
        The same images; clear ones standardized by the public channel statistics, if the transform does so.

    Returns
    -------
    ndarray of shape (S,)
        For each clear position, row-major, where it was moved.

    Raises
    ------
    ShapeError
        If shapes differ, or there are fewer than 2 or more than 4,096 positions.
    """
    seen, hidden = _by_position(released, clear)
    images = seen.shape[1]
    norms = [np.linalg.norm(one, axis=2) for one in (hidden, seen)]
    target = _assigned(*norms)
    for _ in range(_ROUNDS):
        inputs = seen[target].reshape(-1, seen.shape[2])
        guessed = fit_ridge(inputs, hidden.reshape(-1, hidden.shape[2]))(seen.reshape(-1, seen.shape[2]))
        again = _assigned(hidden.reshape(len(hidden), -1), guessed.reshape(len(seen), images * hidden.shape[2]))
        if (again == target).all():
            break
        target = again
    return target


def true_positions(transform: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Find where a transform moves each position by changing one at a time; for judging an attack, not for attacking.

    Parameters
    ----------
    transform : callable
        Of features (B, C, *spatial); moves positions, and treats them alike.
    shape : tuple of int
        (C, *spatial).

    Returns
    -------
    ndarray of shape (S,)
        As `recover_positions`.

    Raises
    ------
    ConfigError
        If one position's change reaches several, or two positions go to one place.
    """
    count = int(np.prod(shape[1:]))
    base = torch.zeros(1, shape[0], count, dtype=torch.float64)
    found = np.empty(count, dtype=np.int64)
    with torch.no_grad():
        still = transform(base.reshape(1, *shape)).flatten(2)
        for position in range(count):
            probe = base.clone()
            probe[0, :, position] = 1.0
            changed = (transform(probe.reshape(1, *shape)).flatten(2) - still).abs().sum(dim=1)[0]
            found[position] = int(changed.argmax())
            if float(changed.sum() - changed.max()) > 1e-6 * float(changed.max()):
                raise ConfigError("The transform must only move positions, but one position changed several.")
    if len(np.unique(found)) != count:
        raise ConfigError("The transform must move positions to different places, but two went to one.")
    return found


def evaluate_permutation_recovery(
    transform: Callable[[Tensor], Tensor],
    released: Features,
    clear: Features,
    subjects: ArrayLike,
    *,
    seed: int,
    known: Sequence[int] = (1, 4, 16),
    repeats: int = 20,
    mean: ArrayLike | None = None,
    scale: ArrayLike | None = None,
) -> tuple[AttackResult, ...]:
    """Recover the key's permutation from known images.

    Parameters
    ----------
    transform : callable
        With the key; used to learn the truth, and never by the attacker.
    released, clear : ndarray of shape (n, C, *spatial)
    subjects : array_like of shape (n,)
    seed : int
    known : sequence of int
        Numbers of known images, one per subject; those over the number of subjects are left out.
    repeats : int
        The attack is repeated with other subjects so often.
    mean, scale : array_like of shape (C,) or None
        Public channel statistics; None is 0 and 1.

    Returns
    -------
    tuple of AttackResult
        "fraction_correct" is the mean over repeats; its interval holds 95 % of the repeats, so it says how much the
        choice of known subjects matters under this one key. `positives` counts positions.

    Raises
    ------
    ConfigError
        If a number is under 1, or the transform does more than move positions.
    ShapeError
        If arrays do not fit together.
    TooFewSubjectsError
        If there are fewer subjects than the smallest number of known images.
    """
    names = aligned_rows(subjects, released, clear)[0]
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    if not known or min(known) < 1 or repeats < 1:
        raise ConfigError(f"known and repeats must be at least 1, got {tuple(known)} and {repeats}.")
    if min(known) > len(members):
        raise TooFewSubjectsError(f"{min(known)} known subjects are needed, found {len(members)}.")
    standardized = (clear - _per_channel(mean, clear, 0.0)) / _per_channel(scale, clear, 1.0)
    _by_position(released, standardized)
    truth = true_positions(transform, clear.shape[1:])
    results = []
    for count in sorted({one for one in known if one <= len(members)}):
        began = time.perf_counter()
        rng = np.random.default_rng(seed)
        correct = []
        for _ in range(repeats):
            drawn = rng.choice(len(members), count, replace=False)
            images = np.array([rng.choice(members[one]) for one in drawn])
            correct.append(float((recover_positions(released[images], standardized[images]) == truth).mean()))
        low, high = np.quantile(correct, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        results.append(
            AttackResult(
                family="inversion",
                name="permutation recovery",
                knowledge="anchored",
                setting=f"{count} known images",
                metric="fraction_correct",
                value=float(np.mean(correct)),
                ci_low=float(low),
                ci_high=float(high),
                chance=1 / len(truth),
                subjects=len(members),
                positives=len(truth),
                negatives=0,
                attacker_subjects=count,
                further=(Measure(name=KNOWN_IMAGES, value=count),),
                budget=f"{count} known pairs, {repeats} repeats",
                seconds=time.perf_counter() - began,
            )
        )
    return tuple(results)


def _by_position(released: Features, clear: Features) -> tuple[Floats, Floats]:
    """Return both as (S, n, C)."""
    if released.ndim < 3 or released.shape[:1] + released.shape[2:] != clear.shape[:1] + clear.shape[2:]:
        raise ShapeError(f"Maps (n, C, *spatial) of one shape are needed, found {released.shape} and {clear.shape}.")
    positions = int(np.prod(clear.shape[2:]))
    if not 2 <= positions <= MOST_POSITIONS:
        raise ShapeError(f"There must be 2 to {MOST_POSITIONS} positions, found {positions}; pool or crop the maps.")
    seen, hidden = (
        np.asarray(one, dtype=np.float64).reshape(*one.shape[:2], positions).transpose(2, 0, 1)
        for one in (released, clear)
    )
    return seen, hidden


def _assigned(wanted: Floats, offered: Floats) -> NDArray[np.int64]:
    """For each row of `wanted` the row of `offered` that the least squared distance in all gives it."""
    cost = (wanted**2).sum(axis=1)[:, None] + (offered**2).sum(axis=1) - 2 * wanted @ offered.T
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)


def _per_channel(values: ArrayLike | None, clear: Features, default: float) -> Floats:
    channels = clear.shape[1]
    array = np.full(channels, default) if values is None else np.asarray(values, dtype=np.float64)
    if array.shape != (channels,) or not np.isfinite(array).all():
        raise ShapeError(f"mean and scale must be finite, one per channel: ({channels},), found {array.shape}.")
    return array.reshape(1, channels, *(1 for _ in clear.shape[2:]))
