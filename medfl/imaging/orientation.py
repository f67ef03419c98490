"""The turn from a file's axes to the canonical ones (RAS+), by reversals and permutations only."""

import nibabel.orientations as orientations
import numpy as np
from numpy.typing import NDArray

from medfl.errors import ImageReadError
from medfl.imaging.volume import StoredAxes, Volume


def check_affine(affine: NDArray[np.float64]) -> None:
    """Refuse an affine that is not an invertible map to millimeters.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)

    Raises
    ------
    ImageReadError
        With reason ``"bad_affine"``: not finite, a step of zero length, or steps that lie in one plane.
    """
    if not np.isfinite(affine).all():
        raise ImageReadError("bad_affine", "The affine must be finite; it holds NaN or infinity.")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not (steps > 1e-9).all() or not (np.abs(affine) < 1e9).all():
        raise ImageReadError("bad_affine", "Voxel spacing must be positive and below 1e9 mm; it is not.")
    if abs(np.linalg.det(affine[:3, :3] / steps)) < 1e-4:
        raise ImageReadError("bad_affine", "The affine must be invertible; its three axes lie in one plane.")


def stored_axes_of(affine: NDArray[np.float64]) -> StoredAxes:
    """Return for each axis of the file the closest canonical axis and its sign.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        Maps the file's index (x, y, z, 1) to RAS+ millimeters; checked by `check_affine`.
    """
    x, y, z = ((int(axis), int(sign)) for axis, sign in orientations.io_orientation(affine))
    return x, y, z


def empty_canonical(
    affine: NDArray[np.float64], shape_xyz: tuple[int, int, int], channels: int, dtype: np.dtype[np.generic]
) -> Volume:
    """Return a canonical volume with voxels still to be written, through the view that `as_stored` gives.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        Maps the file's index (x, y, z, 1) to RAS+ millimeters; checked by `check_affine`.
    shape_xyz : three ints
        Lengths of the file's axes.
    channels : int
    dtype : dtype

    Returns
    -------
    Volume
        Array of shape (C, D, H, W), C-contiguous and not initialized.
    """
    stored_axes = stored_axes_of(affine)
    lengths = {canonical: length for (canonical, _), length in zip(stored_axes, shape_xyz, strict=True)}
    array = np.empty((channels, lengths[2], lengths[1], lengths[0]), dtype)
    turned = np.asarray(affine @ _canonical_to_stored(stored_axes, shape_xyz), dtype=np.float64)
    return Volume(array, turned, stored_axes)


def as_stored(volume: Volume) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Undo the canonical turn of a 3-D volume.

    Parameters
    ----------
    volume : Volume
        With an array of shape (C, D, H, W).

    Returns
    -------
    array : ndarray of shape (C, z, y, x)
        A view of the voxels in the file's own order.
    affine : ndarray of shape (4, 4)
        Maps the file's index (x, y, z, 1) to RAS+ millimeters.
    """
    numpy_axes = [3 - canonical for canonical, _ in reversed(volume.stored_axes)]
    turned = volume.array.transpose(0, *numpy_axes)
    reversals = tuple(slice(None, None, sign) for _, sign in reversed(volume.stored_axes))
    z, y, x = turned.shape[1:]
    affine = volume.affine @ np.linalg.inv(_canonical_to_stored(volume.stored_axes, (x, y, z)))
    return turned[(slice(None), *reversals)], affine


def _canonical_to_stored(stored_axes: StoredAxes, stored_shape_xyz: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the (4, 4) map from canonical indices (w, h, d, 1) to the file's indices (x, y, z, 1)."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for stored, ((canonical, sign), length) in enumerate(zip(stored_axes, stored_shape_xyz, strict=True)):
        matrix[stored, canonical] = sign
        matrix[stored, 3] = 0 if sign > 0 else length - 1
    return matrix
