"""An image that no flip and no swap of axes leaves unchanged, with a mask at each side of the body.

Everything is said in RAS+ millimeters around the centre of the block and painted into a file whose axes run another
way: the file's x towards inferior, y towards left, z towards anterior, with three different spacings.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SHAPE = (24, 36, 50)
SPACING = (2.5, 1.6, 0.9)
CENTRE_MM = np.array([7.0, -31.0, 104.0])


@dataclass(frozen=True)
class Marker:
    """A block of one label, named by the side of the body it marks."""

    letter: str
    label: int
    centre_mm: tuple[float, float, float]
    half_mm: tuple[float, float, float]


#: Each has its own size and its own distance from the centre.
MARKERS = (
    Marker("R", 1, (20.0, 0.0, 0.0), (4.0, 3.0, 4.0)),
    Marker("L", 2, (-16.0, 0.0, 0.0), (3.0, 4.0, 5.0)),
    Marker("A", 3, (0.0, 15.0, 0.0), (4.0, 4.0, 4.0)),
    Marker("P", 4, (0.0, -12.0, 0.0), (3.0, 3.0, 6.0)),
    Marker("S", 5, (0.0, 0.0, 22.0), (4.0, 3.0, 4.0)),
    Marker("I", 6, (0.0, 0.0, -17.0), (5.0, 3.0, 3.5)),
)
CLASSES = {marker.letter: marker.label for marker in MARKERS}


def affine() -> NDArray[np.float64]:
    """Return the file's map from index to RAS+ millimeters."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]]) * np.array(SPACING)
    matrix[:3, 3] = CENTRE_MM - matrix[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return matrix


def labels() -> NDArray[np.uint8]:
    """Return the mask in the file's order (x, y, z)."""
    index = np.stack(np.meshgrid(*(np.arange(length) for length in SHAPE), indexing="ij"), axis=-1)
    mm = index @ affine()[:3, :3].T + affine()[:3, 3] - CENTRE_MM
    mask = np.zeros(SHAPE, np.uint8)
    for marker in MARKERS:
        mask[(np.abs(mm - marker.centre_mm) <= marker.half_mm).all(axis=-1)] = marker.label
    return mask


def image() -> NDArray[np.float32]:
    """Return values in the file's order: 100 in the body, 900 and more in the markers, 0 at the very edge."""
    values = np.full(SHAPE, 100.25, np.float32)
    values[:, [0, -1]] = 0
    return np.where(labels() > 0, 900.5 + labels(), values).astype(np.float32)


def write(folder: Path) -> Path:
    """Write image, reference, model and the names of the structures as one case."""
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image(), affine()), folder / "image.nii.gz")
    for name in ("reference", "model"):
        nib.save(nib.Nifti1Image(labels(), affine()), folder / f"{name}.nii.gz")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    return folder
