"""One image in memory, always in the same orientation."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in canonical orientation, with the way back to the file it came from.

    Attributes
    ----------
    array : ndarray of shape (C, D, H, W) or (C, H, W)
        Voxels. In 3-D, `W` runs to the patient's right-to-left axis end **R→L as +x = Right**: index w grows
        towards the patient's Right, h towards Anterior, d towards Superior (RAS+). In 2-D the picture's own rows
        and columns are kept.
    affine : ndarray of shape (4, 4)
        Maps the index vector (w, h, d, 1) to millimetres in the RAS+ frame (the NIfTI convention on the reversed
        axes). For pictures without a known size: the identity.
    stored_axes : tuple of (int, int), one per spatial axis
        For each spatial axis (x, y, z) **of the file**: the canonical axis it became (0 = x, 1 = y, 2 = z) and +1, or
        -1 when it was flipped. Writing uses it to put every voxel back where it was.
    """

    array: NDArray[np.generic]
    affine: NDArray[np.float64]
    stored_axes: tuple[tuple[int, int], ...] = ((0, 1), (1, 1), (2, 1))

    def __post_init__(self) -> None:
        """Check that the shapes fit together."""
        if self.array.ndim not in (3, 4):
            raise ShapeError(f"array must have shape (C, D, H, W) or (C, H, W), got {self.array.shape}.")
        if self.affine.shape != (4, 4):
            raise ShapeError(f"affine must have shape (4, 4), got {self.affine.shape}.")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(D, H, W) or (H, W)."""
        return tuple(self.array.shape[1:])

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxel centres along (D, H, W) or (H, W), in millimetres."""
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
