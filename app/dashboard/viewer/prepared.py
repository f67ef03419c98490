"""An image and its masks, made ready for the browser once and shown as often as the page runs again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.dashboard.viewer.reduction import Factors, block_labels, block_means, factors_for, reduced_affine
from app.dashboard.viewer.windows import Modality, Window, guessed_modality, windows_for
from app.dashboard.viewer.wire import Body, body_of
from medfl.errors import DataError, ShapeError
from medfl.imaging.orientation import as_stored
from medfl.imaging.read import read_image
from medfl.imaging.volume import Volume

#: Voxels of an image that takes more bytes than this are joined before they are sent. Streamlit refuses messages
#: over 200 MB; the rest is left for the masks.
LARGEST_BYTES = 190_000_000

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """What `show_volume` shows. Make it with `prepared_volume` and keep it (``st.cache_data``).

    Attributes
    ----------
    body : Body
        Voxels as they travel.
    shape : tuple of int
        (W, H, D) as sent, or (W, H) of a picture.
    affine : ndarray of shape (4, 4)
        Maps the index (w, h, d, 1) as sent to RAS+ millimeters; for a picture only the spacing is used.
    factors : three ints
        How many voxels of the file became one, along (D, H, W).
    file_shape : tuple of int
        (x, y, z) or (x, y) of the file.
    file_affine : ndarray of shape (4, 4)
        Maps the file's index (x, y, z, 1) to RAS+ millimeters.
    colour : bool
        Whether the image is a picture with red, green and blue.
    windows : tuple of Window
        The first is the one to begin with.
    """

    body: Body
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    factors: Factors
    file_shape: tuple[int, ...]
    file_affine: NDArray[np.float64]
    colour: bool
    windows: tuple[Window, ...]

    @property
    def is_volume(self) -> bool:
        """Whether there are three planes to show."""
        return len(self.shape) == 3

    @property
    def is_calibrated(self) -> bool:
        """Whether distances are millimeters; pictures without a known size have pixels only."""
        return self.is_volume or not np.array_equal(self.affine, np.eye(4))

    @property
    def is_reduced(self) -> bool:
        """Whether voxels were joined."""
        return self.factors != (1, 1, 1)

    @property
    def tilt_degrees(self) -> float:
        """Largest angle between an axis of the scan and the axis of the body it is closest to."""
        if not self.is_volume:
            return 0.0
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(np.abs(np.diag(directions)), 0, 1))).max())

    @property
    def has_reference(self) -> bool:
        """Whether a reference mask is there."""
        return "reference" in self.body.parts

    @property
    def has_model(self) -> bool:
        """Whether a mask of the model is there."""
        return "model" in self.body.parts

    def file_voxel(self, mm: tuple[float, float, float]) -> tuple[int, ...] | None:
        """Return the file's voxel at a position, or None outside of the image.

        Parameters
        ----------
        mm : three floats
            RAS+ millimeters; in a picture, what `file_affine` makes of column and row.
        """
        index = np.linalg.solve(self.file_affine, [*mm, 1.0])[: len(self.file_shape)]
        voxel = tuple(int(number) for number in np.floor(index + 0.5))
        inside = all(0 <= number < length for number, length in zip(voxel, self.file_shape, strict=True))
        return voxel if inside else None


def prepared_volume(
    image: Volume | Path,
    *,
    reference: Volume | Path | None = None,
    model: Volume | Path | None = None,
    modality: Modality | None = None,
    channel: int | None = None,
    largest_bytes: int = LARGEST_BYTES,
) -> PreparedVolume:
    """Read an image and its masks and make them ready for the browser.

    Parameters
    ----------
    image : Volume or Path
        Three- or two-dimensional; a file is NIfTI, DICOM, PNG or JPEG.
    reference, model : Volume or Path, optional
        Masks with labels 0 to 255 on the image's grid.
    modality : {"ct", "mr", "other"}, optional
        Decides which windows are offered; without it the values decide, see `guessed_modality`.
    channel : int, optional
        Which channel of several to show. By default the first, or all three of a picture in colour.
    largest_bytes : int
        Images that need more are sent with joined voxels; the viewer says so.

    Raises
    ------
    DataError
        If an image or mask cannot be read, or a mask holds something other than labels.
    ShapeError
        If a mask does not lie on the image's grid, or the channel does not exist.
    """
    volume = image if isinstance(image, Volume) else read_image(image)
    is_colour = channel is None and _is_colour(volume.array)
    voxels = _sendable(volume.array[:, None] if is_colour else _channel(volume, channel or 0)[None])
    masks = {
        name: _labels(mask if isinstance(mask, Volume) else read_image(mask), volume, name)
        for name, mask in (("reference", reference), ("model", model))
        if mask is not None
    }
    windows = windows_for(voxels, modality or guessed_modality(voxels))
    voxels, masks, factors = _joined(voxels, masks, volume, largest_bytes)
    file_shape, file_affine = _file_grid(volume)
    return PreparedVolume(
        body=body_of(voxels, masks),
        shape=tuple(reversed(voxels.shape[-len(file_shape) :])),
        affine=reduced_affine(volume.affine, factors),
        factors=factors,
        file_shape=file_shape,
        file_affine=file_affine,
        colour=is_colour,
        windows=windows,
    )


def _is_colour(array: NDArray[np.generic]) -> bool:
    """Tell whether this is a picture whose red, green and blue differ; many gray pictures are stored as RGB."""
    if array.ndim != 3 or len(array) != 3 or array.dtype != np.uint8:
        return False
    return not (np.array_equal(array[0], array[1]) and np.array_equal(array[0], array[2]))


def _channel(volume: Volume, channel: int) -> NDArray[np.generic]:
    """Return one channel as (D, H, W), with D = 1 for a picture."""
    if not 0 <= channel < len(volume.array):
        raise ShapeError(f"The image has {len(volume.array)} channels; channel {channel} does not exist.")
    array = volume.array[channel : channel + 1]
    return np.squeeze(array, 0) if array.ndim == 4 else array


def _sendable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the values in the smallest type the browser knows that holds them, C-contiguous."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        array = array.astype(np.uint8)
    elif (kind == "i" and size == 1) or (array.dtype not in (np.uint8, np.uint16, np.int16) and _fits_int16(array)):
        array = array.astype(np.int16)
    elif array.dtype not in (np.uint8, np.uint16, np.int16):
        array = array.astype(np.float32)
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))


def _fits_int16(array: NDArray[np.generic]) -> bool:
    """Tell whether every value is a whole number between -32768 and 32767."""
    if not _INT16.min <= float(array.min()) <= float(array.max()) <= _INT16.max:
        return False
    return array.dtype.kind in "iu" or all(bool((np.rint(part) == part).all()) for part in array)


def _labels(mask: Volume, image: Volume, name: str) -> NDArray[np.uint8]:
    """Return a mask as uint8 (D, H, W) after checking that it belongs to the image."""
    if mask.spatial_shape != image.spatial_shape:
        raise ShapeError(f"The {name} mask must have the image's size {image.spatial_shape}, got {mask.spatial_shape}.")
    if len(image.spatial_shape) == 3 and not np.allclose(mask.affine, image.affine, atol=1e-2):
        raise ShapeError(f"The {name} mask must lie where the image lies; its affine differs.")
    array = _channel(mask, 0)
    lowest, highest = float(array.min()), float(array.max())
    labels = array.astype(np.uint8) if 0 <= lowest <= highest <= 255 else None
    if labels is None or (array.dtype.kind == "f" and not np.array_equal(labels, array)):
        raise DataError(f"The {name} mask must hold whole labels from 0 to 255; it holds other values.")
    return np.ascontiguousarray(labels)


def _joined(
    voxels: NDArray[np.generic], masks: Mapping[str, NDArray[np.uint8]], volume: Volume, largest_bytes: int
) -> tuple[NDArray[np.generic], dict[str, NDArray[np.uint8]], Factors]:
    """Join voxels where the image, (channels, D, H, W), is too large to send."""
    z, y, x = voxels.shape[1:]
    spacing = (np.inf, *volume.spacing_mm)[-3:]
    largest_voxels = max(1, largest_bytes // (voxels.itemsize * len(voxels)))
    factors = factors_for((z, y, x), (spacing[0], spacing[1], spacing[2]), largest_voxels)
    if factors != (1, 1, 1):
        voxels = np.stack([block_means(channel, factors) for channel in voxels])
        masks = {name: block_labels(mask, factors) for name, mask in masks.items()}
    return voxels, dict(masks), factors


def _file_grid(volume: Volume) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return the file's lengths (x, y, z) or (x, y), and its map from index to millimeters."""
    if volume.array.ndim == 3:
        return volume.array.shape[:0:-1], volume.affine
    stored, affine = as_stored(volume)
    return stored.shape[:0:-1], affine
