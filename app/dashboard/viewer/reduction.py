"""Fewer voxels for the browser: means of blocks for images, the commonest label of blocks for masks."""

from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

Factors = tuple[int, int, int]


def factors_for(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], largest_voxels: int) -> Factors:
    """Return by how many voxels each axis is joined so that at most `largest_voxels` are left.

    The axis with the finest spacing is joined first, so that the result comes closer to equal spacing.

    Parameters
    ----------
    shape : three ints
    spacing_mm : three floats
        In the same order.
    largest_voxels : int
        At least 1.

    Returns
    -------
    three ints
        1 where an axis stays as it is.
    """
    factors = [1, 1, 1]
    while prod(reduced_shape(shape, (factors[0], factors[1], factors[2]))) > largest_voxels:
        _, axis = min((spacing_mm[axis] * factors[axis], axis) for axis in range(3) if factors[axis] < shape[axis])
        factors[axis] += 1
    return factors[0], factors[1], factors[2]


def reduced_shape(shape: tuple[int, int, int], factors: Factors) -> tuple[int, int, int]:
    """Return the lengths after joining; a last block may be smaller."""
    z, y, x = (ceil(length / factor) for length, factor in zip(shape, factors, strict=True))
    return z, y, x


def block_means(array: NDArray[np.generic], factors: Factors) -> NDArray[np.generic]:
    """Return the mean of every block of voxels, rounded for integers.

    Parameters
    ----------
    array : ndarray of shape (D, H, W)
    factors : three ints
        Block lengths along (D, H, W).

    Returns
    -------
    ndarray of shape (ceil(D / f0), ceil(H / f1), ceil(W / f2)), same dtype
    """
    joined = np.empty(reduced_shape(_shape3(array), factors), array.dtype)
    in_block = _block_sums(np.ones(array.shape[1:]), factors)
    for z in range(joined.shape[0]):
        slab = array[z * factors[0] : (z + 1) * factors[0]]
        mean = _block_sums(slab.sum(axis=0, dtype=np.float64), factors) / (in_block * len(slab))
        joined[z] = np.rint(mean) if array.dtype.kind in "iu" else mean
    return joined


def block_labels(mask: NDArray[np.uint8], factors: Factors) -> NDArray[np.uint8]:
    """Return the label that most voxels of every block have; at a tie a structure wins over the background.

    Parameters
    ----------
    mask : uint8 ndarray of shape (D, H, W)
    factors : three ints
        Block lengths along (D, H, W).
    """
    present = np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256))
    labels = np.array([*present[present > 0], 0], dtype=np.uint8)
    joined = np.empty(reduced_shape(_shape3(mask), factors), np.uint8)
    for z in range(joined.shape[0]):
        slab = mask[z * factors[0] : (z + 1) * factors[0]]
        if not slab.any():
            joined[z] = 0
            continue
        votes = [_block_sums((slab == label).sum(axis=0, dtype=np.float64), factors) for label in labels]
        joined[z] = labels[np.argmax(votes, axis=0)]
    return joined


def reduced_affine(affine: NDArray[np.float64], factors: Factors) -> NDArray[np.float64]:
    """Return the map from the joined index (w, h, d, 1) to millimeters: a block lies where its centre is.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        Maps the index (w, h, d, 1) of the unreduced array to millimeters.
    factors : three ints
        Block lengths along (D, H, W).
    """
    joined = np.diag([*(float(factor) for factor in reversed(factors)), 1.0])
    joined[:3, 3] = [(factor - 1) / 2 for factor in reversed(factors)]
    return affine @ joined


def _block_sums(plane: NDArray[np.float64], factors: Factors) -> NDArray[np.float64]:
    """Return the sums over blocks of rows and columns of a plane (H, W); the last block of an axis may be smaller."""
    rows = plane if factors[1] == 1 else np.add.reduceat(plane, np.arange(0, plane.shape[0], factors[1]), axis=0)
    if factors[2] == 1:
        return rows
    sums: NDArray[np.float64] = np.add.reduceat(rows, np.arange(0, plane.shape[1], factors[2]), axis=1)
    return sums


def _shape3(array: NDArray[np.generic]) -> tuple[int, int, int]:
    """Return the three lengths of a volume."""
    z, y, x = array.shape
    return z, y, x
