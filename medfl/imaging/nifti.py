"""NIfTI-1 and NIfTI-2 files to and from a `Volume`."""

import gzip
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from medfl.errors import DataError, ImageReadError
from medfl.imaging.byte_source import ByteSource
from medfl.imaging.nifti_header import NiftiLayout, read_header, read_layout
from medfl.imaging.orientation import as_stored, empty_canonical
from medfl.imaging.scaling import scale_into
from medfl.imaging.volume import Volume
from medfl.results.atomic import write_bytes

#: Volumes with more voxels than this are refused unless the caller allows more.
MAX_VOXELS = 2**28

_COMPRESSION_LEVEL = 3


def read_nifti(path: Path, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a NIfTI file in canonical orientation (RAS+).

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz``, or the ``.hdr`` of a pair; the content decides, not the name.
    max_voxels : int
        Limit on the number of voxels of all channels together.

    Returns
    -------
    Volume
        Array of shape (C, D, H, W), C-contiguous, where the file's fourth axis (or fifth, for vectors) becomes the
        channels; of shape (1, H, W) for a two-dimensional file, which is not reoriented. The stored dtype is kept;
        with a scaling other than the identity the array is float32.

    Raises
    ------
    ImageReadError
        With reason ``"empty"``, ``"truncated"``, ``"bad_gzip"``, ``"trailing_data"``, ``"not_nifti"``,
        ``"bad_header"``, ``"bad_affine"``, ``"bad_dimensions"``, ``"unsupported_dtype"``, ``"too_large"``,
        ``"missing_pair"``, ``"not_finite"`` or ``"unreadable"``.
    """
    with ByteSource(path) as source:
        header = read_header(source)
        layout = read_layout(header, max_voxels)
        if layout.voxels_follow:
            source.skip(max(0, layout.offset - header.sizeof_hdr))
            return _read_volume(source, layout)
    with ByteSource(_image_of_pair(path)) as source:
        source.skip(layout.offset)
        return _read_volume(source, layout)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume in the orientation it was stored in, so that no voxel moves; the file appears whole or not.

    Parameters
    ----------
    volume : Volume
        One channel gives a file of three axes (two in 2-D), several give four. Booleans are written as uint8 and
        float16 as float32.
    path : Path
        Ends in ``.nii`` or ``.nii.gz``; its folder exists. The compressed file holds no name and no time.

    Raises
    ------
    DataError
        If the name has another ending, or NIfTI has no such dtype.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise DataError("A NIfTI file must be named .nii or .nii.gz; choose such a name.")
    array, affine = (volume.array, volume.affine) if volume.array.ndim == 3 else as_stored(volume)
    array = _writable(array)
    header = _header_for(array, affine)
    content = b"".join((header, array.tobytes()))
    if path.name.endswith(".gz"):
        content = gzip.compress(content, _COMPRESSION_LEVEL, mtime=0)
    write_bytes(path, content)


def _image_of_pair(path: Path) -> Path:
    """Return the file with the voxels that belongs to a header file."""
    stem = path.name.removesuffix(".gz").removesuffix(".hdr")
    for suffix in (".img", ".img.gz"):
        if (candidate := path.with_name(stem + suffix)).is_file():
            return candidate
    raise ImageReadError("missing_pair", "The header's voxels must lie beside it in an .img file; there is none.")


def _read_volume(source: ByteSource, layout: NiftiLayout) -> Volume:
    """Read, turn, scale and check the voxels."""
    if not source.could_hold(layout.n_bytes):
        raise ImageReadError(
            "truncated", f"The header announces {layout.n_bytes} bytes of voxels; the file is too small for them."
        )
    volume, stored_view = _empty(layout)
    _fill(stored_view, source, layout)
    source.finish()
    array = volume.array
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise ImageReadError("not_finite", "Voxels must be finite; there are NaN or infinite ones.")
    return volume


def _empty(layout: NiftiLayout) -> tuple[Volume, NDArray[np.generic]]:
    """Return a canonical volume to fill, and a view of it in the file's own order, (C, z, y, x)."""
    dtype = layout.dtype.newbyteorder("=") if layout.slope is None else np.dtype(np.float32)
    if len(layout.shape_xyz) == 2:
        array = np.empty(layout.shape, dtype)
        return Volume(array, layout.affine), array[:, None]
    x, y, z = layout.shape_xyz
    volume = empty_canonical(layout.affine, (x, y, z), layout.channels, dtype)
    return volume, as_stored(volume)[0]


def _fill(stored_view: NDArray[np.generic], source: ByteSource, layout: NiftiLayout) -> None:
    """Read the voxels plane by plane, or all at once where they need no change."""
    if layout.slope is None and layout.dtype.isnative and stored_view.flags.c_contiguous:
        _read_exactly(stored_view, source)
        return
    plane = np.empty(stored_view.shape[2:], layout.dtype)
    for index in np.ndindex(stored_view.shape[:2]):
        _read_exactly(plane, source)
        scale_into(stored_view[index], plane, 1.0 if layout.slope is None else layout.slope, layout.intercept)


def _read_exactly(target: NDArray[np.generic], source: ByteSource) -> None:
    """Fill a C-contiguous array from the source."""
    if source.read_into(target.reshape(-1).view(np.uint8).data) < target.nbytes:
        raise ImageReadError("truncated", "The file must hold every voxel its header announces; it ends early.")


def _writable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array in a dtype that NIfTI knows."""
    stand_in: dict[str, np.dtype[np.generic]] = {"b1": np.dtype(np.uint8), "f2": np.dtype(np.float32)}
    dtype: np.dtype[np.generic] = stand_in.get(array.dtype.str[1:], array.dtype)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(f"Voxels to write must be integers, floats or booleans, got {array.dtype}.")
    return array.astype(dtype.newbyteorder("<"), copy=False)


def _header_for(array: NDArray[np.generic], affine: NDArray[np.float64]) -> bytes:
    """Return the header and the four bytes that follow it; NIfTI-2 where an axis is too long for NIfTI-1."""
    channels, *spatial = array.shape
    shape = (*reversed(spatial), *([1] * (3 - len(spatial)) + [channels] if channels > 1 else []))
    header = Nifti2Header(endianness="<") if max(shape) > 32767 else Nifti1Header(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(shape)
    header.set_qform(affine, code="aligned")
    header.set_sform(affine, code="aligned")
    header.set_xyzt_units("mm")
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    header["scl_slope"] = 1
    return bytes(header.binaryblock) + bytes(header.single_vox_offset - header.sizeof_hdr)
