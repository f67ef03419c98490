"""Channels in public units, so that clipping, quantizing and keying mean the same at every site."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.protector import FeatureProtector, require_channels

EPSILON = 1e-6
CORRELATION = 0.3
"""Assumed correlation of one channel's values at two positions of a map."""
_CEILING = 6.0  # of ReLU6


class Standardization(FeatureProtector):
    """``(x - mean) / (scale + 1e-6)`` per channel. It hides nothing: mean and scale are public.

    Parameters
    ----------
    mean, scale : ndarray of shape (C,)
        From public sources only, never from the studies that are released.

    Raises
    ------
    ShapeError
        If the shapes differ, a number is not finite or a scale is negative.
    """

    name = "standardization"
    mean: Tensor
    scale: Tensor

    def __init__(self, mean: NDArray[np.floating], scale: NDArray[np.floating]) -> None:
        super().__init__()
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise ShapeError(f"mean and scale must both have shape (C,), found {mean.shape} and {scale.shape}.")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale >= 0).all()):
            raise ShapeError("mean and scale must be finite, and no scale negative.")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return float32 features in public units."""
        require_channels(features.shape[1:], len(self.mean))
        shape = (-1, *(1,) * (features.ndim - 2))
        return (features.float() - self.mean.view(shape)) / (self.scale.view(shape) + EPSILON)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return `shape`."""
        require_channels(shape, len(self.mean))
        return shape


def from_batch_norm(beta: NDArray[np.floating], gamma: NDArray[np.floating], positions: int) -> Standardization:
    """Derive public feature statistics from the last batch normalization of a public, frozen network.

    For features that are the mean over positions of ReLU6 of its output. The output is taken as N(beta, gamma**2), as
    it is on the data that the public weights were made from. No study is looked at, so this costs no privacy; on other
    images the units are only roughly one standard deviation.

    Parameters
    ----------
    beta, gamma : ndarray of shape (C,)
        Shift and scale of the normalization.
    positions : int
        Positions in the pooled map. Values at two positions are assumed to correlate by 0.3, so that pooling
        multiplies the standard deviation by ``sqrt(0.3 + 0.7 / positions)``.

    Returns
    -------
    Standardization

    Raises
    ------
    ConfigError
        If there is no position.
    ShapeError
        If the shapes differ.
    """
    if positions < 1:
        raise ConfigError(f"positions must be at least 1, found {positions}.")
    if beta.ndim != 1 or beta.shape != gamma.shape:
        raise ShapeError(f"beta and gamma must both have shape (C,), found {beta.shape} and {gamma.shape}.")
    mean, std = clipped_normal(beta.astype(np.float64), np.abs(gamma).astype(np.float64))
    return Standardization(mean, std * math.sqrt(CORRELATION + (1 - CORRELATION) / positions))


def clipped_normal(
    mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of min(max(X, 0), 6) for X ~ N(mean, std**2).

    The integrals of the normal density times 1, x and x**2 between the bounds, plus the mass above. Means above 3 are
    mirrored to 6 - mean, where no digits cancel.

    Parameters
    ----------
    mean, std : ndarray of shape (C,)
        `std` >= 0.

    Returns
    -------
    (ndarray, ndarray) of shape (C,)
    """
    mirrored = mean > _CEILING / 2
    center = np.where(mirrored, _CEILING - mean, mean)
    spread = np.where(std > 0, std, 1.0)
    low, high = -center / spread, (_CEILING - center) / spread
    above, inside = ndtr(-high), ndtr(-low) - ndtr(-high)
    density_low, density_high = _density(low), _density(high)
    slope = density_low - density_high
    first = center * inside + spread * slope + _CEILING * above
    second = (center**2 + spread**2) * inside + 2 * center * spread * slope + _CEILING**2 * above
    second += spread**2 * (low * density_low - high * density_high)
    first = np.where(std > 0, first, np.clip(center, 0.0, _CEILING))
    deviation = np.where(std > 0, np.sqrt(np.maximum(second - first**2, 0.0)), 0.0)
    return np.where(mirrored, _CEILING - first, first), deviation


def _density(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * value**2) / math.sqrt(2 * math.pi))
