"""Distances between the surfaces of two masks, in millimetres."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_TOLERANCE_SLACK_MM = 1e-6


class SurfaceScores(NamedTuple):
    """Surface metrics of one class in one study.

    Attributes
    ----------
    hd95_mm : float
        The larger of the two directed 95th percentiles (linear interpolation), as MONAI and torch.quantile define it.
    msd_mm : float
        Mean over all surface voxels of both masks of the distance to the other surface.
    nsd : float
        Share of the surface voxels of both masks within the tolerance of the other surface, in [0, 1]
        (surface Dice, Nikolov et al. 2018, counted in voxels as MONAI does by default).
    """

    hd95_mm: float
    msd_mm: float
    nsd: float


def surface_voxels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the voxels of a mask that touch its outside through a face.

    Parameters
    ----------
    mask : ndarray of shape (D, H, W) or (H, W), bool
        Beyond the array counts as outside.

    Returns
    -------
    ndarray of bool, same shape
    """
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(window)]
    return np.asarray(mask & ~inner)


def surface_scores(
    predicted: NDArray[np.bool_], reference: NDArray[np.bool_], *, spacing_mm: Sequence[float], tolerance_mm: float
) -> SurfaceScores:
    """Measure the distances between the surfaces of two non-empty masks.

    Nearest neighbours come from a k-d tree: exact, in float64, and its cost follows the surfaces, not the volume.

    Parameters
    ----------
    predicted, reference : ndarray of shape (D, H, W) or (H, W), bool
        Both non-empty. Cropping them to their common bounding box changes nothing.
    spacing_mm : sequence of float
        Distance between voxel centres per axis.
    tolerance_mm : float
        For the normalised surface distance, >= 0.

    Returns
    -------
    SurfaceScores
    """
    scale = np.asarray(spacing_mm, dtype=np.float64)
    # Coordinates start at 1: scipy's tree splits next to the smallest one, and next to 0 lies a denormal number, on
    # which it recurses without end where the processor flushes denormals (as torch.set_flush_denormal makes it do).
    ours, theirs = ((np.argwhere(surface_voxels(mask)) + 1) * scale for mask in (predicted, reference))
    there = cKDTree(theirs).query(ours)[0]
    back = cKDTree(ours).query(theirs)[0]
    every = np.concatenate([there, back])
    return SurfaceScores(
        hd95_mm=float(max(np.quantile(there, 0.95), np.quantile(back, 0.95))),
        msd_mm=float(every.mean()),
        nsd=float(np.mean(every <= tolerance_mm + _TOLERANCE_SLACK_MM)),
    )
