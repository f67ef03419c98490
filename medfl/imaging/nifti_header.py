"""What a NIfTI header says about the voxels, checked before any of them is read."""

from dataclasses import dataclass
from math import prod

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medfl.errors import ImageReadError
from medfl.imaging.byte_source import ByteSource
from medfl.imaging.orientation import check_affine

_MILLIMETERS_PER_UNIT = {1: 1e3, 3: 1e-3}  # by the header's code: meter, micron


@dataclass(frozen=True, eq=False)
class NiftiLayout:
    """Where and how a file keeps its voxels.

    Attributes
    ----------
    shape_xyz : tuple of int
        Two or three spatial lengths in the file's order.
    channels : int
    dtype : dtype
        As stored, with its byte order.
    offset : int
        First byte of the voxels, counted from the start of the file that holds them.
    voxels_follow : bool
        False when the voxels lie in an ``.img`` file beside the header.
    slope : float or None
        None when stored numbers are the values.
    intercept : float
    affine : ndarray of shape (4, 4)
        Maps the file's index (x, y, z, 1) to RAS+ millimeters.
    """

    shape_xyz: tuple[int, ...]
    channels: int
    dtype: np.dtype[np.generic]
    offset: int
    voxels_follow: bool
    slope: float | None
    intercept: float
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, z, y, x) or (C, y, x)."""
        return (self.channels, *reversed(self.shape_xyz))

    @property
    def n_bytes(self) -> int:
        """Bytes of all voxels."""
        return prod(self.shape) * self.dtype.itemsize


def read_header(source: ByteSource) -> Nifti1Header:
    """Read the header at the start of `source` and leave the source right behind it.

    Raises
    ------
    ImageReadError
        With reason ``"not_nifti"`` or ``"truncated"``.
    """
    start = source.read(348)
    announced = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    size = next((known for known in (348, 540) if known in announced), None)
    if size is None:
        raise ImageReadError("not_nifti", "A NIfTI file must begin with its header size, 348 or 540; this does not.")
    start += source.read(size - 348)
    if len(start) < size:
        raise ImageReadError("truncated", f"The header must have {size} bytes; the file ends after {len(start)}.")
    if start[344:347] not in (b"n+1", b"ni1") if size == 348 else start[4:7] not in (b"n+2", b"ni2"):
        raise ImageReadError("not_nifti", "The NIfTI magic bytes are missing; this may be an ANALYZE file.")
    return Nifti1Header(start, check=False) if size == 348 else Nifti2Header(start, check=False)


def read_layout(header: Nifti1Header, max_voxels: int) -> NiftiLayout:
    """Check what the header says and return it.

    Raises
    ------
    ImageReadError
        With reason ``"bad_dimensions"``, ``"too_large"``, ``"unsupported_dtype"``, ``"bad_header"`` or
        ``"bad_affine"``.
    """
    shape_xyz, channels = _shape(header)
    n_voxels = prod(shape_xyz) * channels
    if n_voxels > max_voxels:
        raise ImageReadError("too_large", f"At most {max_voxels} voxels are read; the header announces {n_voxels}.")
    dtype = _dtype(header)
    try:
        offset = float(header["vox_offset"])
        slope, intercept = header.get_slope_inter()
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise ImageReadError("bad_header", "The header's offset, scaling or orientation cannot be decoded.") from error
    if not 0 <= offset < 2**31:
        raise ImageReadError("bad_header", "The offset of the voxels must lie in [0, 2**31).")
    affine[:3] *= _MILLIMETERS_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    check_affine(affine)
    is_identity = slope is None or (slope == 1 and not intercept)
    return NiftiLayout(
        shape_xyz=shape_xyz,
        channels=channels,
        dtype=dtype,
        offset=int(offset),
        voxels_follow=bytes(header["magic"])[1:2] == b"+",
        slope=None if is_identity else slope,
        intercept=intercept or 0.0,
        affine=affine,
    )


def _shape(header: Nifti1Header) -> tuple[tuple[int, ...], int]:
    """Return the two or three spatial lengths and the number of channels."""
    n_axes, *lengths = (int(value) for value in header["dim"])
    if not 2 <= n_axes <= 7 or min(lengths[:n_axes]) < 1:
        raise ImageReadError("bad_dimensions", "Two to seven axes of length 1 or more must be announced.")
    beyond_space = [length for length in lengths[3:n_axes] if length > 1]
    if len(beyond_space) > 1:
        raise ImageReadError("bad_dimensions", "At most one axis beyond the three of space can be read, as channels.")
    return tuple(lengths[: min(n_axes, 3)]), prod(beyond_space)


def _dtype(header: Nifti1Header) -> np.dtype[np.generic]:
    """Return the type of the stored numbers."""
    try:
        dtype: np.dtype[np.generic] = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise ImageReadError("unsupported_dtype", "The header's datatype code is unknown.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImageReadError("unsupported_dtype", "Voxels must be integers or floats of at most 64 bits.")
    return dtype
