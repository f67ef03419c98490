"""How much two images look alike; numpy arrays of one channel, 2-D or 3-D."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from medfl.errors import ShapeError

_TAPS, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
_Image = NDArray[np.floating[Any]]


def psnr(a: _Image, b: _Image, data_range: float) -> float:
    """Peak signal-to-noise ratio, ``10 log10(data_range^2 / mean((a - b)^2))``.

    Parameters
    ----------
    a, b : ndarray of shape (H, W) or (D, H, W)
    data_range : float
        Largest minus smallest value an image may have, > 0.

    Returns
    -------
    float
        In dB; infinite where both images are equal.

    Raises
    ------
    ShapeError
        If the images do not fit together, are not finite, or the range is not positive.
    """
    first, second = _pair(a, b, data_range)
    error = float(np.mean((first - second) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(a: _Image, b: _Image, data_range: float) -> float:
    """Mean structural similarity (Wang et al. 2004, equation 13, with their constants 0.01 and 0.03).

    Local moments are taken under a Gaussian window of 11 taps and standard deviation 1.5 along each axis, where it fits
    wholly into the image. Where the smallest extent is under 22, the window is the largest odd number of taps, at least
    3, that is at most half of it; values of different windows should not be compared.

    Parameters
    ----------
    a, b : ndarray of shape (H, W) or (D, H, W)
        Every extent at least 3.
    data_range : float
        Largest minus smallest value an image may have, > 0.

    Returns
    -------
    float
        In [-1, 1]; 1 for equal images.

    Raises
    ------
    ShapeError
        If the images do not fit together, are smaller than 3, not finite, or the range is not positive.
    """
    first, second = _pair(a, b, data_range)
    window = _window(min(first.shape))
    mean_a, mean_b = _local(first, window), _local(second, window)
    variance_a = _local(first * first, window) - mean_a**2
    variance_b = _local(second * second, window) - mean_b**2
    covariance = _local(first * second, window) - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.mean(luminance * structure))


def _window(extent: int) -> NDArray[np.float64]:
    """Return the odd number of Gaussian weights, sum 1, that suits the smallest extent."""
    half = min(_TAPS, max(3, extent // 2)) - 1
    offsets = np.arange(-(half // 2), half // 2 + 1)
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    return np.asarray(weights / weights.sum())


def _local(values: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means at every place where the window fits."""
    for axis in range(values.ndim):
        values = correlate1d(values, window, axis=axis, mode="nearest")
    radius = len(window) // 2
    return values[tuple(slice(radius, extent - radius) for extent in values.shape)]


def _pair(a: _Image, b: _Image, data_range: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim not in (2, 3) or min(first.shape) < 3:
        raise ShapeError(
            "two images of one channel must have the same 2-D or 3-D shape with every extent at least 3, found "
            f"{first.shape} and {second.shape}."
        )
    if not np.isfinite(first).all() or not np.isfinite(second).all() or not data_range > 0:
        raise ShapeError("images must be finite and data_range positive; clip or replace values first.")
    return first, second
