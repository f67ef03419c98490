"""Made-up anatomy: numbers that describe a subject and a site, and the picture they give.

Coordinates run from -1 to 1 along every axis; `d` is the number of axes, 2 or 3. Intensities have no unit.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_N_WAVES = 5
_N_TEXTURE = 8
_TISSUE = 0.45
_CONTRAST = (0.30, -0.22)  # of structures 1 and 2 against tissue


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth field: a sum of cosines of low frequency.

    Attributes
    ----------
    frequencies : ndarray of shape (n, d)
        Radians per unit of coordinate.
    phases, amplitudes : ndarray of shape (n,)
    """

    frequencies: Array
    phases: Array
    amplitudes: Array


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What stays with a subject over all visits.

    Attributes
    ----------
    radii, offset : ndarray of shape (d,)
        Half axes and center of the body.
    centers, sizes : ndarray of shape (2, d)
        Of the structures 1 and 2.
    is_present : tuple of (bool, bool)
        Whether the subject has each structure.
    shape, texture : Waves
        Smooth bending of all surfaces; smooth brightness pattern inside.
    lesions : ndarray of shape (n, d)
        Centers of small bright spots; empty for a subject without the finding.
    """

    radii: Array
    offset: Array
    centers: Array
    sizes: Array
    is_present: tuple[bool, bool]
    shape: Waves
    texture: Waves
    lesions: Array


@dataclass(frozen=True, eq=False)
class SiteEffect:
    """What a site's scanner does to every image.

    Attributes
    ----------
    gain, gamma, noise : float
        Factor, contrast exponent, and standard deviation of white noise.
    bias : ndarray of shape (d,)
        Brightness gradient along each axis, per unit of coordinate.
    """

    gain: float
    gamma: float
    noise: float
    bias: Array


def draw_anatomy(
    rng: np.random.Generator, dimensions: int, *, has_finding: bool, absence_rate: float = 0.15
) -> Anatomy:
    """Draw one subject.

    Parameters
    ----------
    rng : numpy Generator
    dimensions : int
        2 or 3.
    has_finding : bool
        Whether the subject has lesions.
    absence_rate : float
        Probability, in [0, 1], that a structure is missing.
    """
    side = np.zeros(dimensions)
    side[-1] = 0.33
    centers = np.stack([-side, side]) + rng.uniform(-0.1, 0.1, (2, dimensions))
    n_lesions = int(rng.integers(3, 6)) if has_finding else 0
    return Anatomy(
        radii=_single(rng.uniform(0.75, 0.9, dimensions)),
        offset=_single(rng.uniform(-0.06, 0.06, dimensions)),
        centers=_single(centers),
        sizes=_single(rng.uniform(0.26, 0.38, (2, dimensions))),
        is_present=(bool(rng.random() >= absence_rate), bool(rng.random() >= absence_rate)),
        shape=_draw_waves(rng, dimensions, _N_WAVES, lowest=1.0, highest=4.0, amplitude=0.12),
        texture=_draw_waves(rng, dimensions, _N_TEXTURE, lowest=3.0, highest=8.0, amplitude=0.025),
        lesions=_single(rng.uniform(-0.45, 0.45, (n_lesions, dimensions))),
    )


def at_visit(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Return the subject at one visit: slightly moved, slightly grown, otherwise the same.

    Parameters
    ----------
    anatomy : Anatomy
    rng : numpy Generator
    """
    dimensions = anatomy.radii.shape[0]
    move = rng.normal(0.0, 0.015, dimensions)
    return replace(
        anatomy,
        offset=_single(anatomy.offset + move),
        centers=_single(anatomy.centers + move),
        lesions=_single(anatomy.lesions + move),
        sizes=_single(anatomy.sizes * rng.normal(1.0, 0.02, anatomy.sizes.shape)),
    )


def draw_site_effect(rng: np.random.Generator, dimensions: int, strength: float = 1.0) -> SiteEffect:
    """Draw one site.

    Parameters
    ----------
    rng : numpy Generator
    dimensions : int
        2 or 3.
    strength : float
        0 gives the ideal scanner, 1 a clearly visible difference.
    """
    return SiteEffect(
        gain=float(1.0 + strength * rng.uniform(-0.25, 0.25)),
        gamma=float(1.0 + strength * rng.uniform(-0.25, 0.25)),
        noise=float(0.01 + strength * rng.uniform(0.0, 0.03)),
        bias=_single(strength * rng.uniform(-0.2, 0.2, dimensions)),
    )


def render(
    anatomy: Anatomy, effect: SiteEffect, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[Array, NDArray[np.uint8]]:
    """Return the image and the label map of one visit at one site.

    Parameters
    ----------
    anatomy : Anatomy
        From `at_visit`.
    effect : SiteEffect
    shape : tuple of int
        (D, H, W) or (H, W).
    rng : numpy Generator
        For the noise.

    Returns
    -------
    image : float32 ndarray of shape `shape`
        Clipped to [0, 1].
    labels : uint8 ndarray of shape `shape`
        0 background, 1 and 2 the structures.
    """
    axes = [np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in shape]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    bend = _field(anatomy.shape, grid)
    body = _distance(grid, anatomy.offset, anatomy.radii) + bend < 1.0
    image = np.where(body, np.float32(_TISSUE) + _field(anatomy.texture, grid), np.float32(0.02))
    labels = np.zeros(shape, dtype=np.uint8)
    for index, contrast in enumerate(_CONTRAST):
        if anatomy.is_present[index]:
            inside = body & (_distance(grid, anatomy.centers[index], anatomy.sizes[index]) + 2.0 * bend < 1.0)
            labels[inside] = index + 1
            image[inside] += np.float32(contrast)
    for center in anatomy.lesions:
        spot = _distance(grid, center, np.full_like(center, 0.11))
        image += np.float32(0.35) * np.exp(-spot) * body
    return _scanned(image, grid, effect, rng), labels


def _scanned(image: Array, grid: tuple[Array, ...], effect: SiteEffect, rng: np.random.Generator) -> Array:
    slope = sum((weight * axis for weight, axis in zip(effect.bias, grid, strict=True)), start=np.float32(1.0))
    seen = np.clip(image, 0.0, None) ** np.float32(effect.gamma) * (np.float32(effect.gain) * slope)
    seen = seen + np.float32(effect.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(seen, 0.0, 1.0).astype(np.float32)


def _draw_waves(
    rng: np.random.Generator, dimensions: int, n: int, *, lowest: float, highest: float, amplitude: float
) -> Waves:
    directions = rng.standard_normal((n, dimensions))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Waves(
        frequencies=_single(directions * rng.uniform(lowest, highest, (n, 1))),
        phases=_single(rng.uniform(0.0, 2.0 * np.pi, n)),
        amplitudes=_single(rng.normal(0.0, amplitude, n)),
    )


def _field(waves: Waves, grid: tuple[Array, ...]) -> Array:
    """Evaluate the sum of cosines; a product of one complex exponential per axis keeps it cheap."""
    total: Array = np.zeros(np.broadcast_shapes(*(axis.shape for axis in grid)), dtype=np.float32)
    for frequency, phase, amplitude in zip(waves.frequencies, waves.phases, waves.amplitudes, strict=True):
        wave = np.asarray(amplitude * np.exp(1j * phase), dtype=np.complex64)
        for weight, axis in zip(frequency, grid, strict=True):
            wave = wave * np.exp(np.complex64(1j) * weight * axis)
        total += wave.real
    return total


def _distance(grid: tuple[Array, ...], center: Array, radii: Array) -> Array:
    """Return the squared distance from `center` in units of `radii`."""
    terms = [((axis - c) / r) ** 2 for axis, c, r in zip(grid, center, radii, strict=True)]
    return np.asarray(sum(terms[1:], start=terms[0]), dtype=np.float32)


def _single(values: NDArray[np.float64] | Array) -> Array:
    return np.asarray(values, dtype=np.float32)
