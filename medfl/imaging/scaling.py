"""Stored numbers to physical ones."""

import numpy as np
from numpy.typing import NDArray


def scaled(view: NDArray[np.generic], slope: float, intercept: float) -> NDArray[np.float32]:
    """Return ``view * slope + intercept`` as C-contiguous float32, computed in float64 plane by plane.

    Parameters
    ----------
    view : ndarray of shape (C, ..., H, W)
    slope, intercept : float
        Finite.
    """
    array = np.empty(view.shape, dtype=np.float32)
    for index in np.ndindex(view.shape[:-2]):
        plane = np.multiply(view[index], slope, dtype=np.float64)
        plane += intercept
        with np.errstate(over="ignore"):
            array[index] = plane
    return array
