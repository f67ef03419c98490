"""A case's image and masks: found, read, and compared."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.dashboard.case_table import Case
from app.dashboard.reading import inside
from app.dashboard.runs import RunEntry
from app.dashboard.study_index import paths_of
from app.dashboard.viewer.prepared import PreparedVolume, prepared_volume
from medfl.data.manifest import read_manifest
from medfl.errors import MedFLError
from medfl.imaging.read import read_image
from medfl.imaging.volume import Volume

LARGEST_BYTES = 32_000_000
_PATIENCE_S = 300.0
_MOST_VOXELS = 30_000_000

Index = Mapping[str, tuple[str, str]]


class NoImages(Exception):
    """The images of a run cannot be found.

    Parameters
    ----------
    reason : str
        "manifest", "settings" or "time": what kept them from being found.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class StructureSizes:
    """How large a structure is, and where the two masks differ.

    Attributes
    ----------
    label : int
    reference, model : float or None
        Milliliters, or pixels of a picture; None without that mask.
    missed, false : float or None
        Parts of the reference that the model left out, and the other way round; None unless both masks are there.
    missed_regions, false_regions : int or None
        Connected parts of one mask that the other does not touch; None as well where the image is too large to count.
    """

    label: int
    reference: float | None
    model: float | None
    missed: float | None = None
    false: float | None = None
    missed_regions: int | None = None
    false_regions: int | None = None


@dataclass(frozen=True, eq=False)
class CaseImages:
    """What the viewer shows of one case.

    Attributes
    ----------
    prepared : PreparedVolume
    sizes : tuple of StructureSizes
    has_reference, has_model : bool
        Whether the case has such a mask and it could be shown.
    left_out : tuple of str
        "reference" or "model": masks that are named but cannot be read, or do not lie on the image.
    """

    prepared: PreparedVolume
    sizes: tuple[StructureSizes, ...]
    has_reference: bool
    has_model: bool
    left_out: tuple[str, ...]


def find_images(run: RunEntry, site: Path | None) -> Index:
    """Return study -> (image, reference mask or "").

    The site's own manifest comes first; without one the data section of the run's settings is followed, in another
    process.

    Parameters
    ----------
    run : RunEntry
    site : Path or None
        The site's state folder.

    Raises
    ------
    NoImages
        If neither names them.
    """
    if site is not None and (site / "manifest.csv").exists():
        try:
            return paths_of(read_manifest(site / "manifest.csv"))
        except MedFLError as error:
            raise NoImages("manifest") from error
    command = [sys.executable, "-m", "app.dashboard.study_index", str(run.folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=True)
        found = json.loads(done.stdout)
        return {study: (image, mask) for study, (image, mask) in found.items()}
    except subprocess.TimeoutExpired as error:
        raise NoImages("time") from error
    except (subprocess.CalledProcessError, OSError, ValueError, AttributeError) as error:
        raise NoImages("settings") from error


def load_case(run: RunEntry, case: Case, index: Index, labels: Sequence[int]) -> CaseImages | None:
    """Read image and masks of one case; None where the image is not there.

    Parameters
    ----------
    run : RunEntry
    case : Case
    index : mapping
        From `find_images`.
    labels : sequence of int
        Of the structures to measure.

    Raises
    ------
    MedFLError
        If the image cannot be read.
    """
    image_path, mask_path = index.get(case.study, ("", ""))
    if not image_path or not Path(image_path).exists():
        return None
    image = read_image(Path(image_path))
    masks, left_out = _masks(run, case, mask_path)
    try:
        prepared = _prepared(image, masks)
    except MedFLError:
        left_out += [name for name, mask in masks.items() if not _lies_on(image, name, mask)]
        masks = {name: mask for name, mask in masks.items() if name not in left_out}
        prepared = _prepared(image, masks)
    unit = float(np.prod(image.spacing_mm)) / 1000 if len(image.spatial_shape) == 3 else 1.0
    arrays = {name: mask.array[0] for name, mask in masks.items()}
    return CaseImages(
        prepared,
        tuple(sizes_of(label, arrays.get("reference"), arrays.get("model"), unit) for label in labels),
        "reference" in masks,
        "model" in masks,
        tuple(left_out),
    )


def sizes_of(
    label: int, reference: NDArray[np.generic] | None, model: NDArray[np.generic] | None, unit: float
) -> StructureSizes:
    """Measure one structure in two masks of one shape.

    Parameters
    ----------
    label : int
    reference, model : ndarray of any shape, or None
    unit : float
        Size of a voxel.
    """
    wanted = None if reference is None else reference == label
    found = None if model is None else model == label
    if wanted is None or found is None:
        return StructureSizes(label, _size(wanted, unit), _size(found, unit))
    return StructureSizes(
        label,
        _size(wanted, unit),
        _size(found, unit),
        _size(wanted & ~found, unit),
        _size(found & ~wanted, unit),
        untouched(wanted, found),
        untouched(found, wanted),
    )


def untouched(parts: NDArray[np.bool_], other: NDArray[np.bool_]) -> int | None:
    """Count connected parts of one mask that another does not touch; None above 30 million voxels.

    Voxels are connected through faces, edges and corners.
    """
    if parts.size > _MOST_VOXELS:
        return None
    from scipy import ndimage

    numbered, count = ndimage.label(parts, structure=np.ones((3,) * parts.ndim, np.int8))
    return int(count - len(np.setdiff1d(np.unique(numbered[other]), [0])))


def _size(mask: NDArray[np.bool_] | None, unit: float) -> float | None:
    return None if mask is None else float(np.count_nonzero(mask)) * unit


def _masks(run: RunEntry, case: Case, reference: str) -> tuple[dict[str, Volume], list[str]]:
    """Return the masks that can be read, and the names of those that are named and cannot."""
    places = {"reference": Path(reference) if reference else None, "model": inside(run.folder, case.prediction)}
    masks: dict[str, Volume] = {}
    left_out: list[str] = []
    for name, named in (("reference", reference), ("model", case.prediction)):
        place = places[name]
        try:
            if named and place is not None:
                masks[name] = read_image(place)
            elif named:
                left_out.append(name)
        except MedFLError:
            left_out.append(name)
    return masks, left_out


def _prepared(image: Volume, masks: Mapping[str, Volume]) -> PreparedVolume:
    return prepared_volume(
        image,
        reference=masks.get("reference"),
        model=masks.get("model"),
        channel=0 if _is_gray(image) else None,
        largest_bytes=LARGEST_BYTES,
    )


def _is_gray(image: Volume) -> bool:
    """Tell whether a picture has three equal channels: then it has windows like any other gray image."""
    array = image.array
    return (
        array.ndim == 3
        and len(array) == 3
        and np.array_equal(array[0], array[1])
        and np.array_equal(array[0], array[2])
    )


def _lies_on(image: Volume, name: str, mask: Volume) -> bool:
    try:
        _prepared(image, {name: mask})
    except MedFLError:
        return False
    return True
