"""What one study's files hold, without keeping their voxels."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.data.manifest import Manifest, StudyRow
from medfl.data.reading import ImageReader
from medfl.errors import ImageReadError
from medfl.imaging.volume import Volume

_MANY_VALUES = 64
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True)
class Issue:
    """Something wrong with one study: a stable code and a sentence."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen of one study.

    Attributes
    ----------
    line : int
        Line of the manifest.
    issues : tuple of Issue
    channels : int
    shape : tuple of int
        (D, H, W) or (H, W); empty if the image cannot be read.
    spacing_mm : tuple of float
    digest : str
        SHA-256 of the image's decoded voxels; empty if it cannot be read.
    mask_values : tuple of float
        Distinct values of the mask, at most 64; empty without a readable mask.
    """

    line: int
    issues: tuple[Issue, ...] = ()
    channels: int = 0
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    digest: str = ""
    mask_values: tuple[float, ...] = ()


def inspect_study(manifest: Manifest, row: StudyRow, line: int, reader: ImageReader) -> Inspection:
    """Read one study's image and mask and say what they hold.

    Parameters
    ----------
    manifest : Manifest
    row : StudyRow
    line : int
        Line of `row` in the manifest.
    reader : ImageReader
    """
    issues: list[Issue] = []
    image = mask = None
    try:
        image = reader.read(manifest.image_path(row))
    except ImageReadError as error:
        issues.append(Issue("unreadable_image", f"The image cannot be read ({error.reason}): {error}"))
    try:
        mask = reader.read(manifest.target_path(row)) if row.has_mask else None
    except ImageReadError as error:
        issues.append(Issue("unreadable_mask", f"The mask cannot be read ({error.reason}): {error}"))
    values = () if mask is None else distinct_values(mask.array)
    issues += [] if mask is None else _mask_issues(mask, image, values)
    if image is None:
        return Inspection(line, tuple(issues), mask_values=values[:_MANY_VALUES])
    return Inspection(
        line=line,
        issues=tuple(issues),
        channels=image.array.shape[0],
        shape=image.spatial_shape,
        spacing_mm=image.spacing_mm,
        digest=voxel_digest(image.array),
        mask_values=values[:_MANY_VALUES],
    )


def voxel_digest(array: NDArray[np.generic]) -> str:
    """Return the SHA-256 (hex) of type, shape and voxels, whatever file they came from.

    Parameters
    ----------
    array : ndarray of any shape
    """
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def distinct_values(mask: NDArray[np.generic]) -> tuple[float, ...]:
    """Return the values of a mask in ascending order.

    Parameters
    ----------
    mask : ndarray of any shape
    """
    return tuple(float(value) for value in np.unique(mask).tolist())


def _mask_issues(mask: Volume, image: Volume | None, values: tuple[float, ...]) -> list[Issue]:
    issues: list[Issue] = []
    fractions = [value for value in values if not value.is_integer()]
    if fractions:
        shown = ", ".join(f"{value:g}" for value in fractions[:5])
        issues.append(Issue("fractional_value", f"Masks must hold whole numbers; found {shown}."))
    if len(values) > _MANY_VALUES:
        issues.append(Issue("many_values", f"A mask must hold at most {_MANY_VALUES} values; found {len(values)}."))
    if values and values[0] < 0:
        issues.append(Issue("negative_value", f"Masks must not hold negative numbers; found {values[0]:g}."))
    if image is None:
        return issues
    if mask.spatial_shape != image.spatial_shape:
        shapes = f"{image.spatial_shape} and {mask.spatial_shape}"
        issues.append(Issue("mask_shape", f"Image and mask must have one shape; found {shapes}."))
    elif not _same_place(mask, image):
        issues.append(Issue("mask_place", "Image and mask must lie in one place; their corners differ by > 0.01 mm."))
    return issues


def _same_place(mask: Volume, image: Volume) -> bool:
    """Tell whether the corner voxels of both grids are at the same millimeters."""
    ends = [(0, size - 1) for size in reversed((1,) * (3 - len(image.spatial_shape)) + image.spatial_shape)]
    corners = np.array(np.meshgrid(*ends, [1])).reshape(4, -1)
    return bool(np.allclose(mask.affine @ corners, image.affine @ corners, atol=_SAME_PLACE_MM, rtol=0.0))
