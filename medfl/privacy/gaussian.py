"""Gaussian noise on features: with a proof (clipped and calibrated), and without one (the control)."""

import math
from collections.abc import Callable
from typing import Never, Protocol, SupportsIndex

import numpy as np
import torch
from dp_accounting import get_sigma_gaussian
from numpy.typing import NDArray
from scipy.special import log_ndtr
from torch import Tensor

from medfl.errors import ConfigError, PrivacyError, ShapeError
from medfl.privacy.protector import FeatureProtector, require_finite

_SAFETY = 1.0 + 1e-9  # pays for rounding in clipping and calibration
_AGREEMENT = 1e-6


class NoiseSource(Protocol):
    """Where noise comes from: a `Keystream` of a key that nobody else holds; see `SeededNoise` for tests."""

    def normals(self, count: int, /) -> NDArray[np.float64]:
        """Return the next `count` independent standard normal values; none is ever returned twice."""
        ...


class SeededNoise:
    """Noise that everybody can repeat: for tests and benchmarks only, it protects nothing.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def normals(self, count: int, /) -> NDArray[np.float64]:
        """Return the next `count` standard normal values."""
        return self._generator.standard_normal(count)


def gaussian_delta(epsilon: float, sigma: float, sensitivity: float) -> float:
    """Return the smallest delta for which Gaussian noise is (epsilon, delta)-differentially private.

    ``Phi(D/2s - eps s/D) - exp(eps) Phi(-D/2s - eps s/D)``, theorem 8 of Balle and Wang 2018 (arXiv 1805.06530).

    Parameters
    ----------
    epsilon : float
        >= 0.
    sigma, sensitivity : float
        Standard deviation of the noise, and the L2 distance between neighbors; > 0, same unit.
    """
    ratio = sensitivity / sigma
    first = float(log_ndtr(ratio / 2 - epsilon / ratio))
    second = epsilon + float(log_ndtr(-ratio / 2 - epsilon / ratio))
    return math.exp(first) * -math.expm1(min(second - first, 0.0))


def analytic_sigma(epsilon: float, delta: float, sensitivity: float, releases_per_subject: int = 1) -> float:
    """Return the standard deviation of the analytic Gaussian mechanism (Balle and Wang 2018).

    Calibrated by dp-accounting and checked against a bisection of `gaussian_delta`. Several releases about one subject
    compose exactly: together they are one release whose sensitivity is sqrt(m) times as large.

    Parameters
    ----------
    epsilon, delta : float
        For everything released about one subject; epsilon > 0, delta in (0, 1).
    sensitivity : float
        L2 distance between neighbors in one release, > 0.
    releases_per_subject : int
        m >= 1.

    Returns
    -------
    float
        Noise per coordinate, in the unit of `sensitivity`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    PrivacyError
        If both calibrations differ by more than 1e-6.
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise ConfigError(f"epsilon must be finite and > 0, delta in (0, 1); found {epsilon:g} and {delta:g}.")
    if not 0 < sensitivity < math.inf:
        raise ConfigError(f"noise with unknown sensitivity protects nothing: it must be finite and > 0, {sensitivity}.")
    if releases_per_subject < 1:
        raise ConfigError(f"releases_per_subject must be at least 1, found {releases_per_subject}.")
    unit = float(get_sigma_gaussian(epsilon, delta))
    check = smallest(lambda sigma: gaussian_delta(epsilon, sigma, 1.0) <= delta, unit)
    if abs(unit - check) > _AGREEMENT * check:
        raise PrivacyError("two calibrations of the noise must agree; they do not. Nothing was released.")
    return max(unit, check) * _SAFETY * sensitivity * math.sqrt(releases_per_subject)


class GaussianNoise(FeatureProtector):
    """Clip each sample as a whole, then add noise: differentially private per subject, adjacency replace-one.

    Whatever a subject's features are, they lie in a ball of radius `clip`, so two of them are at most ``2 * clip``
    apart. Each forward pass is a release. Computed in float64 and rounded to float32 at the end; against an attacker
    who exploits how floating-point numbers are spaced (Mironov 2012) nothing is claimed.

    Parameters
    ----------
    clip : float
        Largest L2 norm of one sample over all its channels and positions.
    epsilon, delta : float
        For all releases about one subject together.
    source : NoiseSource
        Kept to itself: the module cannot be pickled, and a deep copy is the same module, since two copies of one
        source would add the same noise twice.
    releases_per_subject : int
        Most samples of one subject that will ever pass. The caller leaves out the others.

    Attributes
    ----------
    sensitivity, sigma : float
        ``2 * clip`` for one sample, and the noise per coordinate.

    Raises
    ------
    ConfigError
        If the clip is missing or not finite, or another number is out of range.
    """

    name = "gaussian"

    def __init__(
        self, *, clip: float | None, epsilon: float, delta: float, source: NoiseSource, releases_per_subject: int = 1
    ) -> None:
        super().__init__()
        if clip is None or not 0 < clip < math.inf:
            raise ConfigError(
                f"noise with unknown sensitivity protects nothing: clip must be finite and > 0, found {clip}."
            )
        self.clip = clip
        self.epsilon, self.delta = epsilon, delta
        self.releases_per_subject = releases_per_subject
        self.sensitivity = 2.0 * clip
        self.sigma = analytic_sigma(epsilon, delta, self.sensitivity, releases_per_subject)
        self._source = source

    def forward(self, features: Tensor) -> Tensor:
        """Return clipped features plus noise, float32.

        Raises
        ------
        PrivacyError
            If a feature is not finite.
        """
        return add_noise(clip_samples(features, self.clip), self.sigma, self._source)

    def __deepcopy__(self, memo: dict[int, object]) -> "GaussianNoise":
        """Return the module itself."""
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        """Refuse to be pickled."""
        raise TypeError("GaussianNoise holds its source of noise, so it is never pickled; make it anew from a key.")

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"clip={self.clip:g}, epsilon={self.epsilon:g}, delta={self.delta:g}, sigma={self.sigma:g}"


class PlainNoise(FeatureProtector):
    """Control: noise of a chosen strength on features as they are. Not differentially private: epsilon is infinite.

    Parameters
    ----------
    std : float
        Standard deviation of the noise per coordinate, in units of the features; >= 0 and finite.
    source : NoiseSource
        As in `GaussianNoise`.

    Raises
    ------
    ConfigError
        If `std` is out of range.
    """

    name = "matched-noise"

    def __init__(self, std: float, source: NoiseSource) -> None:
        super().__init__()
        if not 0 <= std < math.inf:
            raise ConfigError(f"std must be finite and >= 0, found {std:g}.")
        self.std = std
        self._source = source

    def forward(self, features: Tensor) -> Tensor:
        """Return features plus noise, float32.

        Raises
        ------
        PrivacyError
            If a feature is not finite.
        """
        require_finite(features)
        return add_noise(features.double(), self.std, self._source)

    def __deepcopy__(self, memo: dict[int, object]) -> "PlainNoise":
        """Return the module itself."""
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        """Refuse to be pickled."""
        raise TypeError("PlainNoise holds its source of noise, so it is never pickled; make it anew from a key.")

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"std={self.std:g}"


def clip_samples(features: Tensor, clip: float) -> Tensor:
    """Scale down the samples whose L2 norm over everything but the batch exceeds `clip`; float64.

    Raises
    ------
    PrivacyError
        If a feature is not finite.
    ShapeError
        If there is no batch.
    """
    if features.ndim < 2:
        raise ShapeError(f"features must have shape (B, C, ...), found {tuple(features.shape)}.")
    require_finite(features)
    exact = features.double()
    norms = exact.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    shrink: Tensor = (clip / norms).clamp_max(1.0)
    return exact * shrink.view(-1, *(1,) * (features.ndim - 1))


def add_noise(features: Tensor, sigma: float, source: NoiseSource) -> Tensor:
    """Return float32 features plus `sigma` times fresh noise, added in float64."""
    noise = torch.from_numpy(source.normals(features.numel())).to(features.device)
    noised: Tensor = features + sigma * noise.view(features.shape)
    return noised.float()


def smallest(holds: Callable[[float], bool], start: float) -> float:
    """Return, to 1e-12, the smallest positive number for which a condition holds that holds for all larger ones.

    Parameters
    ----------
    holds : callable
    start : float
        A guess, > 0.
    """
    low, high = start, start
    while not holds(high):
        high *= 2
    while holds(low) and low > 1e-300:
        low /= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
