"""DICOM series to `Volume`s."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ImageReadError
from medfl.imaging.dicom_facts import DicomHeader, Frame, Identity
from medfl.imaging.dicom_geometry import Stack, check_spacing, stack_slices
from medfl.imaging.dicom_header import read_header
from medfl.imaging.dicom_pixels import decode_frames, stored_dtype
from medfl.imaging.dicom_screen import is_picture_class
from medfl.imaging.nifti import MAX_VOXELS
from medfl.imaging.orientation import as_stored, empty_canonical
from medfl.imaging.scaling import scale_into, scaled_dtype
from medfl.imaging.volume import Volume


@dataclass(frozen=True)
class SeriesInfo:
    """Files that make one image.

    Attributes
    ----------
    identity : Identity
        Of the first file. For pseudonymization, not to be shown or logged.
    files : tuple of DicomHeader
        Their order means nothing: slices are sorted by geometry when they are read.
    part, n_parts : int
        A DICOM series that mixes orientations, shapes or spacings is several images: which one this is, from 1 for the
        one with the most files.
    """

    identity: Identity
    files: tuple[DicomHeader, ...] = field(repr=False)
    part: int = 1
    n_parts: int = 1


def read_dicom(path: Path, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read one DICOM file: a radiograph, an enhanced multi-frame image, or a single slice (D = 1).

    Raises
    ------
    ImageReadError
        As `medfl.imaging.dicom_header.read_header` and `read_series`.
    """
    header = read_header(path)
    return read_series(SeriesInfo(header.identity, (header,)), max_voxels=max_voxels)


def read_series(series: SeriesInfo, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read the pixels of a series, sorted by geometry, rescaled and in canonical orientation (RAS+).

    Parameters
    ----------
    series : SeriesInfo
        From `medfl.imaging.dicom_folder.find_series`.
    max_voxels : int
        Limit on the number of voxels of all channels together.

    Returns
    -------
    Volume
        Array of shape (C, D, H, W), or (C, H, W) for radiographs and photographs, whose rows and columns are kept.
        Slope and intercept are applied: the dtype is the stored one where they are the identity, int16 or int32 where
        whole numbers are added (as in CT), float32 otherwise. MONOCHROME1 is inverted: larger is brighter.

    Raises
    ------
    ImageReadError
        With reason ``"too_large"``, ``"missing_geometry"``, ``"mixed_series"``, ``"unsupported_frames"``,
        ``"bad_orientation"``, ``"bad_spacing"``, ``"duplicate_positions"``, ``"missing_slices"``,
        ``"uneven_spacing"``, ``"shifted_slices"``, ``"truncated"``, ``"bad_pixels"``, ``"changed"``,
        ``"not_finite"`` or ``"unreadable"``.
    """
    pixels = series.files[0].pixels
    n_voxels = pixels.rows * pixels.columns * pixels.samples * sum(file.pixels.n_frames for file in series.files)
    if n_voxels > max_voxels:
        raise ImageReadError("too_large", f"At most {max_voxels} voxels are read; the headers announce {n_voxels}.")
    _check_uniform(series.files)
    volume, stored_view, order = _empty_picture(series) if _is_picture(series) else _empty_stack(series)
    place = {int(frame): position for position, frame in enumerate(order)}
    number = 0
    for file in series.files:
        for facts, frame in zip(file.frames, decode_frames(file), strict=True):
            scale_into(stored_view[:, place[number]], frame, facts.slope, facts.intercept)
            number += 1
    array = volume.array
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise ImageReadError("not_finite", "Voxels must be finite; slope and intercept make some infinite.")
    return volume


def _is_picture(series: SeriesInfo) -> bool:
    return is_picture_class(series.files[0].sop_class)


def _check_uniform(files: Sequence[DicomHeader]) -> None:
    """Refuse files that cannot be slices of one image."""
    first = files[0]
    for file in files:
        same_shape = (file.pixels.rows, file.pixels.columns, file.pixels.samples) == (
            first.pixels.rows,
            first.pixels.columns,
            first.pixels.samples,
        )
        same_type = stored_dtype(file.pixels) == stored_dtype(first.pixels)
        if not (same_shape and same_type and file.identity.series_uid == first.identity.series_uid):
            raise ImageReadError("mixed_series", "All slices must have one shape, type and series; they differ.")


def _dtype(series: SeriesInfo) -> np.dtype[np.generic]:
    """Return the type of the rescaled values."""
    scalings = [(frame.slope, frame.intercept) for file in series.files for frame in file.frames]
    bits_stored = max(file.pixels.bits_stored for file in series.files)
    return scaled_dtype(stored_dtype(series.files[0].pixels), bits_stored, scalings)


def _empty_picture(series: SeriesInfo) -> tuple[Volume, NDArray[np.generic], NDArray[np.intp]]:
    """Return a two-dimensional volume to fill, a view of it as (C, 1, rows, columns), and the order of the frames."""
    pixels, frame = series.files[0].pixels, series.files[0].frames[0]
    if len(series.files) > 1 or pixels.n_frames > 1:
        raise ImageReadError("unsupported_frames", "A radiograph must be one file with one frame; there are more.")
    affine = np.eye(4)
    if frame.spacing is not None:
        check_spacing(np.array(frame.spacing))
        affine[0, 0], affine[1, 1] = frame.spacing[1], frame.spacing[0]
    array = np.empty((pixels.samples, pixels.rows, pixels.columns), dtype=_dtype(series))
    return Volume(array, affine), array[:, None], np.zeros(1, dtype=np.intp)


def _empty_stack(series: SeriesInfo) -> tuple[Volume, NDArray[np.generic], NDArray[np.intp]]:
    """Return a canonical volume to fill, a view of it as (C, slices, rows, columns), and the order of the frames."""
    pixels = series.files[0].pixels
    stack = _stack([frame for file in series.files for frame in file.frames])
    shape_xyz = (pixels.columns, pixels.rows, len(stack.order))
    volume = empty_canonical(stack.affine, shape_xyz, pixels.samples, _dtype(series))
    return volume, as_stored(volume)[0], stack.order


def _stack(frames: Sequence[Frame]) -> Stack:
    """Sort the frames in space."""
    positions, orientations, spacings = [], [], []
    for frame in frames:
        if frame.position is None or frame.orientation is None or frame.spacing is None:
            raise ImageReadError("missing_geometry", "Every slice must have a position, an orientation and a spacing.")
        positions.append(frame.position)
        orientations.append(frame.orientation)
        spacings.append(frame.spacing)
    orientation, spacing = np.array(orientations), np.array(spacings)
    if np.ptp(orientation, axis=0).max() > 1e-3 or np.ptp(spacing, axis=0).max() > 1e-3 * spacing.max():
        raise ImageReadError("mixed_series", "All slices must share one orientation and spacing; they differ.")
    lone_step_mm = 1.0 if frames[0].thickness is None else frames[0].thickness
    return stack_slices(np.array(positions), orientation[0].reshape(2, 3), spacing[0], lone_step_mm)
