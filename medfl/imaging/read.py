"""Reading an image file of any kind that medfl knows."""

from pathlib import Path

from medfl.errors import ImageReadError
from medfl.imaging.dicom import read_dicom
from medfl.imaging.nifti import MAX_VOXELS, read_nifti
from medfl.imaging.picture import read_picture
from medfl.imaging.regular_file import open_regular
from medfl.imaging.volume import Volume

_PICTURE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def read_image(path: Path, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Return the image in a NIfTI, PNG, JPEG or DICOM file, told apart by its content, whatever its name.

    Parameters
    ----------
    path : Path
        One file; a DICOM series of several files is read by `medfl.imaging.dicom.read_series`.
    max_voxels : int
        Limit on the number of voxels of all channels together.

    Raises
    ------
    ImageReadError
        If the file cannot be used; the reason code says why.
    """
    with open_regular(path) as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return read_dicom(path, max_voxels=max_voxels)
    if start.startswith(_PICTURE_STARTS):
        return read_picture(path, max_pixels=max_voxels)
    try:
        return read_nifti(path, max_voxels=max_voxels)
    except ImageReadError as error:
        if error.reason != "not_nifti":
            raise
        raise ImageReadError("unknown_format", "An image must be NIfTI, DICOM, PNG or JPEG; this is none.") from None
