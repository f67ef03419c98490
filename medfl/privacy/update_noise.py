"""Whole updates of a site, clipped and noised: what a model gained in local training, as one vector.

Whatever a site computes, its clipped update lies in a ball of radius `clip`. All that follows rests on that alone, so
nothing need be known of the network, the loss or the data, and any training may come before it.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.gaussian import NoiseSource

ArrayMap = Mapping[str, NDArray[Any]]
_SAFETY = 1.0 - 1e-5  # pays for rounding in clipping and in sums


def clipped_update(before: ArrayMap, after: ArrayMap, clip: float) -> NDArray[np.float64]:
    """Return what training added to the floating-point arrays, scaled down to a norm of at most ``(1 - 1e-5) * clip``.

    No update at all is legal, and an update with a value that is not finite becomes none: no site can spoil a round.
    Integer and boolean arrays, such as counters of batches, are no part of it.

    Parameters
    ----------
    before : mapping of str to ndarray
        The model that training started from.
    after : mapping of str to ndarray
        The same names, shapes and types.
    clip : float
        Largest L2 norm over all arrays together, > 0.

    Returns
    -------
    ndarray of shape (P,), float64
        All floating-point arrays, flattened, in the order of their names.

    Raises
    ------
    ConfigError
        If the clip is not finite and above 0.
    ShapeError
        If names, shapes or types differ.
    """
    _require("clip", clip)
    _require_same(before, after)
    with np.errstate(over="ignore", invalid="ignore"):  # not finite in, or differences beyond float64: no update
        moved = [after[name].astype(np.float64) - before[name].astype(np.float64) for name in _noised_names(before)]
        update = np.concatenate([np.zeros(0), *(part.ravel() for part in moved)])
    largest = float(np.abs(update).max(initial=0.0))
    if not math.isfinite(largest):
        return np.zeros_like(update)
    if largest == 0:
        return update
    norm = float(np.linalg.norm(update / largest))  # of the direction: squares of large or tiny values are not safe
    allowed = clip * _SAFETY
    if largest <= allowed / norm:
        return update
    shrunk: NDArray[np.float64] = update / largest * (allowed / norm)
    return shrunk


def clipped_total(before: ArrayMap, afters: Iterable[ArrayMap], clip: float) -> NDArray[np.float64]:
    """Return the sum of clipped updates, without noise: for the hub of `DpFedAvg`, and never to be released.

    One update more or less moves it by at most `clip`, another update in place of one by at most ``2 * clip``.

    Parameters
    ----------
    before, clip
        As in `clipped_update`.
    afters : iterable of mapping of str to ndarray
        One for each site; none is legal.

    Returns
    -------
    ndarray of shape (P,), float64
    """
    total = clipped_update(before, before, clip)
    for after in afters:
        total += clipped_update(before, after, clip)
    return total


def noised(
    total: NDArray[np.float64], *, clip: float, noise_multiplier: float, source: NoiseSource
) -> NDArray[np.float64]:
    """Return a sum of clipped updates plus noise of standard deviation ``noise_multiplier * clip`` per coordinate.

    The same for every coordinate, whichever array it belongs to, and added in float64; against an attacker who exploits
    how floating-point numbers are spaced (Mironov 2012) nothing is claimed.

    Parameters
    ----------
    total : ndarray of shape (P,), float64
        Of updates that were clipped at the same `clip`.
    clip : float
        > 0.
    noise_multiplier : float
        > 0, see `update_accounting.update_noise_for`.
    source : NoiseSource
        In production a `Keystream` of a key just drawn from the operating system (`secrets.token_bytes`), never from
        the run's seed: who can repeat the noise can take it off.

    Raises
    ------
    ConfigError
        If a number is not finite and above 0.
    """
    check_noise(clip, noise_multiplier)
    return total + noise_multiplier * clip * source.normals(len(total))


def moved_by(before: ArrayMap, update: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return a model after an update of its floating-point arrays; all others stay as they were before.

    Every array keeps its type. Values beyond the range of a type are set to its largest.

    Parameters
    ----------
    before : mapping of str to ndarray
    update : ndarray of shape (P,), float64
        In the order of `clipped_update`.

    Raises
    ------
    ShapeError
        If the update does not have one value for each floating-point one of the model.
    """
    names = _noised_names(before)
    size = sum(before[name].size for name in names)
    if update.shape != (size,):
        raise ShapeError(f"an update of this model must have shape ({size},), found {update.shape}.")
    model = {name: array.copy() for name, array in before.items()}
    start = 0
    for name in names:
        array = before[name]
        part = update[start : start + array.size].reshape(array.shape)
        range_ = np.finfo(array.dtype)
        model[name] = np.asarray(np.clip(array.astype(np.float64) + part, range_.min, range_.max), dtype=array.dtype)
        start += array.size
    return model


def noised_update(
    before: ArrayMap, after: ArrayMap, *, clip: float, noise_multiplier: float, source: NoiseSource
) -> dict[str, NDArray[Any]]:
    """Return the model that a site sends where nobody is trusted: its clipped update, noised by itself.

    A subject may change the update as a whole, from any point of the ball to any other: the distance between neighbors
    is ``2 * clip``, also where a subject is merely added or left out. `update_accounting` takes it so.

    Parameters
    ----------
    before, after, clip
        As in `clipped_update`.
    noise_multiplier, source
        As in `noised`.

    Returns
    -------
    dict of str to ndarray
        Names, shapes and types of `before`; integer and boolean arrays are those of `before`.

    Raises
    ------
    ConfigError
        If a number is not finite and above 0.
    ShapeError
        If names, shapes or types differ.
    """
    update = clipped_update(before, after, clip)
    return moved_by(before, noised(update, clip=clip, noise_multiplier=noise_multiplier, source=source))


def check_noise(clip: float, noise_multiplier: float) -> None:
    """Check that there is a clip and noise.

    Raises
    ------
    ConfigError
        If a number is not finite and above 0.
    """
    _require("clip", clip)
    _require("noise_multiplier", noise_multiplier)


def _noised_names(arrays: ArrayMap) -> list[str]:
    return sorted(name for name, array in arrays.items() if array.dtype.kind == "f")


def _require_same(before: ArrayMap, after: ArrayMap) -> None:
    if before.keys() != after.keys():
        raise ShapeError(
            f"both models must hold the same {len(before)} arrays; {len(before.keys() ^ after.keys())} are in one only."
        )
    for name, array in before.items():
        found = after[name]
        if (found.shape, found.dtype) != (array.shape, array.dtype):
            raise ShapeError(
                f"{name} must be {array.dtype} {array.shape} as before, found {found.dtype} {found.shape}."
            )


def _require(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be finite and > 0, found {value}. Without it nothing is private.")
