"""Random changes to a batch; drawing is apart from applying, so a change can be replayed."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_SHIFT = 0.05
_GAIN = 0.2
_NOISE = 0.15


@dataclass(frozen=True)
class Augmentation:
    """How often and how far images are changed in training.

    Attributes
    ----------
    flip_axes : tuple of int
        Spatial axes that may be mirrored, 0 is the first of (D, H, W) or (H, W).
    flip, rotate, scale, intensity, noise : float
        Probability of each change, in [0, 1].
    rotate_degrees : float
        Largest angle about each axis.
    scale_range : float
        Largest relative change of size along each axis, below 1. An image that is turned or scaled is also shifted by
        up to 5 % of half its size.
    """

    flip_axes: tuple[int, ...] = ()
    flip: float = 0.0
    rotate: float = 0.0
    rotate_degrees: float = 15.0
    scale: float = 0.0
    scale_range: float = 0.1
    intensity: float = 0.0
    noise: float = 0.0

    @property
    def is_spatial(self) -> bool:
        """Whether voxels may move off the grid."""
        return self.rotate > 0 or self.scale > 0


@dataclass(frozen=True)
class Draw:
    """What was drawn for one batch of B images.

    Attributes
    ----------
    flips : ndarray of bool, shape (B, n_axes)
    affine : ndarray of shape (B, d, d + 1) or None
        Sampling grid transform in normalized coordinates, last spatial axis first.
    gain, offset : ndarray of shape (B,)
    noise : ndarray of shape (B,)
        Standard deviation of added noise, in units of the image.
    noise_seed : int
    """

    flips: NDArray[np.bool_]
    affine: NDArray[np.float32] | None
    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    noise: NDArray[np.float32]
    noise_seed: int


def draw(augmentation: Augmentation, spatial: tuple[int, ...], count: int, rng: np.random.Generator) -> Draw:
    """Draw the changes for a batch.

    Parameters
    ----------
    augmentation : Augmentation
    spatial : tuple of int
        (H, W) or (D, H, W).
    count : int
        B.
    rng : Generator
    """
    acts = rng.random((count, 3)) < [augmentation.intensity, augmentation.intensity, augmentation.noise]
    return Draw(
        flips=rng.random((count, len(augmentation.flip_axes))) < augmentation.flip,
        affine=_affine(augmentation, spatial, count, rng) if augmentation.is_spatial else None,
        gain=np.where(acts[:, 0], rng.uniform(1 - _GAIN, 1 + _GAIN, count), 1.0).astype(np.float32),
        offset=np.where(acts[:, 1], rng.uniform(-_GAIN, _GAIN, count), 0.0).astype(np.float32),
        noise=np.where(acts[:, 2], rng.uniform(0, _NOISE, count), 0.0).astype(np.float32),
        noise_seed=int(rng.integers(2**31)),
    )


def apply(augmentation: Augmentation, drawn: Draw, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the changed batch.

    Parameters
    ----------
    augmentation : Augmentation
    drawn : Draw
    image : Tensor of shape (B, C, *spatial)
    target : Tensor of shape (B, 1, *spatial) or (B,)
        Masks move with the image (nearest neighbor); labels stay.

    Returns
    -------
    image, target : Tensor
        Same shapes and dtypes.
    """
    is_mask = target.ndim == image.ndim
    if drawn.affine is not None:
        grid = functional.affine_grid(torch.from_numpy(drawn.affine), list(image.shape), align_corners=False)
        image = functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
        if is_mask:
            moved = functional.grid_sample(
                target.float(), grid, mode="nearest", padding_mode="border", align_corners=False
            )
            target = moved.to(target.dtype)
    for position, axis in enumerate(augmentation.flip_axes):
        chosen = torch.from_numpy(drawn.flips[:, position])
        if bool(chosen.any()):
            image = _flipped(image, chosen, axis + 2)
            target = _flipped(target, chosen, axis + 2) if is_mask else target
    if augmentation.intensity > 0:
        column = (-1,) + (1,) * (image.ndim - 1)
        image = image * torch.from_numpy(drawn.gain).view(column) + torch.from_numpy(drawn.offset).view(column)
    if augmentation.noise > 0 and bool((drawn.noise > 0).any()):
        generator = torch.Generator().manual_seed(drawn.noise_seed)
        image = image.clone()
        for index in np.flatnonzero(drawn.noise):
            image[index] += torch.randn(image[index].shape, generator=generator) * float(drawn.noise[index])
    return image, target


def _flipped(tensor: Tensor, chosen: Tensor, axis: int) -> Tensor:
    return torch.where(chosen.view((-1,) + (1,) * (tensor.ndim - 1)), tensor.flip(axis), tensor)


def _affine(
    augmentation: Augmentation, spatial: tuple[int, ...], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    dimensions = len(spatial)
    planes = [(first, second) for first in range(dimensions) for second in range(first + 1, dimensions)]
    half = np.asarray(spatial[::-1], dtype=np.float64) / 2
    result = np.empty((count, dimensions, dimensions + 1), dtype=np.float32)
    for index in range(count):
        turns = rng.uniform(-1, 1, len(planes)) * np.deg2rad(augmentation.rotate_degrees)
        turns_now, scales_now = rng.random() < augmentation.rotate, rng.random() < augmentation.scale
        turns *= turns_now
        matrix = np.eye(dimensions)
        for (first, second), angle in zip(planes, turns, strict=True):
            rotation = np.eye(dimensions)
            rotation[first, first] = rotation[second, second] = np.cos(angle)
            rotation[first, second], rotation[second, first] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ rotation
        limit = np.log1p(augmentation.scale_range)
        scales = np.exp(rng.uniform(-limit, limit, dimensions) * scales_now)
        result[index, :, :dimensions] = np.diag(1 / half) @ (matrix @ np.diag(scales)) @ np.diag(half)
        result[index, :, dimensions] = rng.uniform(-_SHIFT, _SHIFT, dimensions) * (turns_now or scales_now)
    return result
