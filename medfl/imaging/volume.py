"""One image in memory, always in the same orientation."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError

StoredAxes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in canonical orientation, with the way back to the file it came from.

    Attributes
    ----------
    array : ndarray of shape (C, D, H, W) or (C, H, W)
        Voxels. In 3-D the axes follow the patient (RAS+): index w grows towards the patient's right, h towards
        anterior, d towards superior, or for a tilted scan along the closest such direction. In 2-D the rows and
        columns of the picture are kept as they are stored.
    affine : ndarray of shape (4, 4)
        Maps the index vector (w, h, d, 1) to millimeters in the RAS+ frame: the NIfTI convention, with the array's
        spatial axes in reverse order. For pictures without a known size: the identity.
    stored_axes : three pairs (axis, sign)
        For each spatial axis x, y, z of the file: the canonical axis it became (0 = w, 1 = h, 2 = d), and +1, or -1
        where it was reversed. Writing uses it to put every voxel back where it was. In 2-D: the identity.
    """

    array: NDArray[np.generic]
    affine: NDArray[np.float64]
    stored_axes: StoredAxes = ((0, 1), (1, 1), (2, 1))

    def __post_init__(self) -> None:
        """Check that the shapes fit together."""
        if self.array.ndim not in (3, 4):
            raise ShapeError(f"array must have shape (C, D, H, W) or (C, H, W), got {self.array.shape}.")
        if self.affine.shape != (4, 4):
            raise ShapeError(f"affine must have shape (4, 4), got {self.affine.shape}.")
        if sorted(axis for axis, _ in self.stored_axes) != [0, 1, 2]:
            raise ShapeError(f"stored_axes must name each of the axes 0, 1, 2 once, got {self.stored_axes}.")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(D, H, W) or (H, W)."""
        return tuple(self.array.shape[1:])

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighboring voxel centers along (D, H, W) or (H, W), in millimeters."""
        along_xyz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(value) for value in along_xyz[::-1][-len(self.spatial_shape) :])

    def with_array(self, array: NDArray[np.generic]) -> "Volume":
        """Return the same geometry around another array of equal spatial shape, for masks and predictions.

        Parameters
        ----------
        array : ndarray of shape (C', D, H, W) or (C', H, W)

        Raises
        ------
        ShapeError
            If the spatial shape differs.
        """
        if tuple(array.shape[1:]) != self.spatial_shape:
            raise ShapeError(f"spatial shape must stay {self.spatial_shape}, got {tuple(array.shape[1:])}.")
        return replace(self, array=array)
