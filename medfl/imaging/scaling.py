"""Stored numbers to physical ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def scale_into(target: NDArray[np.generic], stored: NDArray[np.generic], slope: float, intercept: float) -> None:
    """Write ``stored * slope + intercept`` into `target`, which may be any strided view of equal shape.

    Parameters
    ----------
    target : ndarray
        Of a dtype that `scaled_dtype` chose; float32 is computed in float64.
    stored : ndarray
    slope, intercept : float
        Finite.
    """
    if slope == 1 and intercept == 0:
        target[...] = stored
    elif target.dtype.kind == "f":
        values = np.multiply(stored, slope, dtype=np.float64)
        values += intercept
        with np.errstate(over="ignore"):
            target[...] = values
    else:
        np.add(stored, target.dtype.type(intercept), out=target, dtype=target.dtype, casting="unsafe")


def scaled_dtype(
    stored: np.dtype[np.generic], bits_stored: int, scalings: Sequence[tuple[float, float]]
) -> np.dtype[np.generic]:
    """Return the smallest dtype that holds every scaled value exactly, or else float32.

    Parameters
    ----------
    stored : dtype
        Integer type of the stored numbers.
    bits_stored : int
        How many of its bits are used.
    scalings : sequence of (slope, intercept)
        Of all slices.

    Returns
    -------
    dtype
        `stored` for the identity; int16 or int32 when only whole numbers are added; float32 otherwise.
    """
    if all(scaling == (1, 0) for scaling in scalings):
        return stored
    if any(slope != 1 or intercept != round(intercept) for slope, intercept in scalings):
        return np.dtype(np.float32)
    low, high = (
        (-(2 ** (bits_stored - 1)), 2 ** (bits_stored - 1) - 1) if stored.kind == "i" else (0, 2**bits_stored - 1)
    )
    low += int(min(intercept for _, intercept in scalings))
    high += int(max(intercept for _, intercept in scalings))
    for candidate in (np.int16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.float32)
