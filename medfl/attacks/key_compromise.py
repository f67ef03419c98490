"""What a leaked key costs: whoever holds it undoes the transform, exactly, by gradients or by learning from examples.

A gradient attack alone overstates the protection: where the transform can be inverted, the exact inverse is both
cheaper and better. Where it cannot, the key still turns features of the attacker's own into pairs to learn from.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medfl.attacks.feature_inversion import aligned_rows, fit_ridge, rank_one, ratio_interval
from medfl.attacks.kept_numbers import closest_is_own
from medfl.attacks.pairs import Features, Floats
from medfl.errors import ConfigError, ShapeError
from medfl.results.attack import AttackResult, Measure

_SUCCESS = 0.1
_RANDOM_STARTS = 2
_RATE = 0.05
_LEAST_OWN = 4


class KeyedTransform(Protocol):
    """What the holder of a key can do."""

    def __call__(self, features: Tensor, /) -> Tensor:
        """Return released features; differentiable."""
        ...

    def inverse(self, features: Tensor, /) -> Tensor:
        """Return clear features, or raise ConfigError where there is no inverse."""
        ...


def evaluate_key_compromise(
    transform: KeyedTransform,
    released: Features,
    clear: Features,
    subjects: ArrayLike,
    *,
    seed: int,
    steps: int = 300,
    draws: int = 1000,
    own: Features | None = None,
    mean: ArrayLike | None = None,
    scale: ArrayLike | None = None,
) -> tuple[AttackResult, ...]:
    """Invert released features with the key.

    Parameters
    ----------
    transform : KeyedTransform
        With the key that the features were released under.
    released : ndarray of shape (n, C, *spatial)
        float64 shows how exact the inverse is; with float32 it is as exact as the release.
    clear : ndarray of shape (n, C, *spatial)
        Features of the same images before the transform.
    subjects : array_like of shape (n,)
    seed : int
        Of the random starts and the intervals.
    steps : int
        Of Adam with rate 0.05, from zeros and from two random starts; at least 1.
    draws : int
        Draws of subjects for the intervals.
    own : ndarray of shape (m, C, *spatial) or None
        Clear features that the attacker has of other subjects, four or more, to make pairs from; None makes none.
    mean, scale : array_like of shape (C,) or None
        Public channel statistics, the unit of the gradient attack's steps and starts; None is 0 and 1.

    Returns
    -------
    tuple of AttackResult
        "exact inverse", left out where the transform has none, "gradient descent", and with `own` "regression on
        self-made pairs". The metric "relative_error" is ``|guess - z| / |z - mean of z|`` over all images: 0 is exact,
        1 the mean, so lower means a better attacker.

    Raises
    ------
    ConfigError
        If `steps` is under 1.
    ShapeError
        If arrays do not fit together, are not finite, or hold one image (fewer than four of `own`) only.
    """
    names, seen, hidden = aligned_rows(subjects, released, clear)
    if released.shape != clear.shape or len(names) < 2:
        raise ShapeError(f"Two or more images of one shape are needed, found {released.shape} and {clear.shape}.")
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}.")
    target = torch.from_numpy(seen.reshape(released.shape))
    center, spread = _statistic(mean, clear, 0.0), _statistic(scale, clear, 1.0)

    def descend() -> Tensor:
        return invert_by_gradients(transform, target, center, spread, steps=steps, seed=seed)

    attacks: list[tuple[str, str, Callable[[], Tensor]]] = [
        ("exact inverse", "one inverse per image", lambda: _solved(transform, target)),
        ("gradient descent", f"{steps} steps, {1 + _RANDOM_STARTS} starts", descend),
    ]
    if own is not None:
        if own.shape[1:] != clear.shape[1:] or len(own) < _LEAST_OWN:
            raise ShapeError(f"own features must be {_LEAST_OWN} or more of {clear.shape[1:]}, found {own.shape}.")
        pairs = np.asarray(own, dtype=np.float64)
        attacks.append(
            ("regression on self-made pairs", f"{len(own)} pairs", lambda: learned_inverse(transform, pairs)(target))
        )
    results = []
    for name, budget, attack in attacks:
        began = time.perf_counter()
        try:
            guess = attack()
        except ConfigError:  # many-to-one: there is nothing to solve
            continue
        seconds = time.perf_counter() - began
        guessed = guess.numpy().reshape(hidden.shape)
        residual = float(_residuals(transform, guess, target).sum() / ((target - target.mean(dim=0)) ** 2).sum())
        results.append(_result(name, budget, guessed, hidden, names, residual**0.5, draws, seed, seconds))
    return tuple(results)


def invert_by_gradients(
    transform: Callable[[Tensor], Tensor], target: Tensor, center: Tensor, spread: Tensor, *, steps: int, seed: int
) -> Tensor:
    """Minimize ``|T(z) - target|^2`` with Adam; each image keeps the start whose residual is least.

    Parameters
    ----------
    transform : callable
    target : Tensor of shape (n, C, *spatial), float64
    center, spread : Tensor that broadcasts with `target`
        z is ``center + spread * p``, and p is what steps and starts are measured in.
    steps : int
    seed : int

    Returns
    -------
    Tensor of shape (n, C, *spatial)
    """
    generator = torch.Generator().manual_seed(seed)
    best, least = torch.zeros_like(target), torch.full((len(target),), torch.inf, dtype=target.dtype)
    for start in range(1 + _RANDOM_STARTS):
        noise = (
            torch.randn(target.shape, generator=generator, dtype=target.dtype) if start else torch.zeros_like(target)
        )
        point = noise.requires_grad_()
        optimizer = torch.optim.Adam([point], lr=_RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = _residuals(transform, center + spread * point, target).sum()
            torch.autograd.backward([loss])
            optimizer.step()
        with torch.no_grad():
            found = center + spread * point
            left = _residuals(transform, found, target)
            better = left < least
            best[better], least[better] = found[better], left[better]
    return best


def learned_inverse(transform: Callable[[Tensor], Tensor], own: Floats) -> Callable[[Tensor], Tensor]:
    """Release features of the attacker's own under the stolen key, and fit a ridge regression back.

    Parameters
    ----------
    transform : callable
    own : ndarray of shape (m, C, *spatial), float64

    Returns
    -------
    callable
        Released features (n, C, *spatial), float64, to guesses of the same shape.
    """
    with torch.no_grad():
        made = transform(torch.from_numpy(own)).numpy().reshape(len(own), -1)
    ridge = fit_ridge(made, own.reshape(len(own), -1))

    def undo(target: Tensor) -> Tensor:
        return torch.from_numpy(ridge(target.numpy().reshape(len(target), -1))).reshape(target.shape)

    return undo


@torch.no_grad()
def _solved(transform: KeyedTransform, target: Tensor) -> Tensor:
    return transform.inverse(target)


def _residuals(transform: Callable[[Tensor], Tensor], guess: Tensor, target: Tensor) -> Tensor:
    return ((transform(guess) - target) ** 2).flatten(1).sum(dim=1)


def _statistic(values: ArrayLike | None, clear: Features, default: float) -> Tensor:
    channels = clear.shape[1]
    array = np.full(channels, default) if values is None else np.asarray(values, dtype=np.float64)
    if array.shape != (channels,) or not np.isfinite(array).all():
        raise ShapeError(f"mean and scale must be finite, one per channel: ({channels},), found {array.shape}.")
    return torch.from_numpy(array).reshape(1, channels, *(1 for _ in clear.shape[2:]))


def _result(
    name: str,
    budget: str,
    guessed: Floats,
    truth: Floats,
    subjects: ArrayLike,
    residual: float,
    draws: int,
    seed: int,
    seconds: float,
) -> AttackResult:
    errors = ((guessed - truth) ** 2).sum(axis=1)
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=1)
    value, low, high = (
        float(np.sqrt(one)) for one in ratio_interval(errors, spread, subjects, draws, np.random.default_rng(seed))
    )
    near = (errors < _SUCCESS**2 * spread).astype(np.float64)
    rate = ratio_interval(near, np.ones(len(near)), subjects, draws, np.random.default_rng(seed))
    return AttackResult(
        family="inversion",
        name=name,
        knowledge="key",
        metric="relative_error",
        value=value,
        ci_low=low,
        ci_high=high,
        chance=1.0,
        baseline="the mean of the clear features",
        subjects=len(np.unique(np.asarray(subjects))),
        positives=len(truth),
        negatives=0,
        attacker_subjects=0,
        further=(
            Measure(name="success_rate", value=rate[0], ci_low=rate[1], ci_high=rate[2], note="relative error < 0.1"),
            Measure(name="residual", value=residual, note="of released features, relative; the attacker sees it"),
            rank_one(guessed, truth, subjects, draws, seed, closest_is_own),
        ),
        budget=budget,
        seconds=seconds,
    )
