"""Images written again under a pseudonym, so that nothing of the source's header or name stays."""

from pathlib import Path

import numpy as np
from PIL import Image

from medfl.data.candidates import PICTURE_SUFFIXES
from medfl.errors import ImageReadError
from medfl.imaging.nifti import write_nifti
from medfl.imaging.volume import Volume


def write_copy(volume: Volume, source: Path, out: Path, name: str) -> str:
    """Write the voxels of `volume` below `out` and return the relative path.

    Parameters
    ----------
    volume : Volume
        What was read from `source`.
    source : Path
        Decides the format: a picture becomes a PNG, everything else NIfTI.
    out : Path
        Folder to write below.
    name : str
        Relative path without suffix.

    Raises
    ------
    ImageReadError
        With reason ``"cannot_copy"`` if a picture is not 8-bit grey or RGB.
    """
    is_picture = source.suffix.lower() in PICTURE_SUFFIXES
    relative = f"{name}.{'png' if is_picture else 'nii.gz'}"
    path = out / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_picture:
        write_nifti(volume, path)
        return relative
    array = volume.array
    if array.dtype != np.uint8 or array.shape[0] not in (1, 3):
        raise ImageReadError("cannot_copy", "A picture to copy must be 8-bit grey or RGB.")
    Image.fromarray(array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)).save(path)
    return relative
