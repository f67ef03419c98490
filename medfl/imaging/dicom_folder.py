"""Finding the series in a folder of DICOM files, or in the tree of a DICOMDIR."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medfl.errors import ImageReadError
from medfl.imaging.dicom import SeriesInfo
from medfl.imaging.dicom_facts import DicomHeader
from medfl.imaging.dicom_header import read_header
from medfl.imaging.dicom_screen import is_picture_class


@dataclass(frozen=True)
class Quarantined:
    """A file that was left out, and why.

    Attributes
    ----------
    path : Path
        For the site's own table; not to be sent or logged.
    reason : str
        Stable code.
    message : str
        One sentence without a path or a patient value.
    """

    path: Path = field(repr=False)
    reason: str
    message: str


@dataclass(frozen=True)
class DicomFolder:
    """What a folder holds.

    Attributes
    ----------
    series : tuple of SeriesInfo
        Sorted by patient, study and series, the parts of a series by falling number of files.
    quarantined : tuple of Quarantined
        Every other file.
    """

    series: tuple[SeriesInfo, ...]
    quarantined: tuple[Quarantined, ...]


def find_series(folder: Path, *, header_of: Callable[[Path], DicomHeader] = read_header) -> DicomFolder:
    """Group the DICOM images under a folder into series; file names and a DICOMDIR's entries are not relied on.

    Files belong together when patient, study, series, class, shape, orientation and spacing agree. A radiograph and an
    enhanced multi-frame file are images of their own.

    Parameters
    ----------
    folder : Path
        Walked whole; symbolic links are not followed.
    header_of : callable
        Reads one header; pass `medfl.imaging.bounded.BoundedReader.header` for files that are not trusted.

    Returns
    -------
    DicomFolder
    """
    headers: list[DicomHeader] = []
    quarantined: list[Quarantined] = []
    seen: set[str] = set()
    for path in _files_under(folder):
        try:
            if path.is_symlink():
                raise ImageReadError("not_a_file", "An image must be a regular file; this is a symbolic link.")
            header = header_of(path)
            _check_importable(header, seen)
        except ImageReadError as error:
            quarantined.append(Quarantined(path, error.reason, str(error)))
        else:
            seen.add(header.instance_uid)
            headers.append(header)
    return DicomFolder(_grouped(headers), tuple(quarantined))


def _files_under(folder: Path) -> Iterator[Path]:
    """Yield every file in a fixed order."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def _check_importable(header: DicomHeader, seen: set[str]) -> None:
    """Refuse a file without a patient, and a second file of one instance."""
    if not header.identity.patient_id:
        raise ImageReadError("missing_patient", "PatientID must be present, to keep a patient's images together.")
    if header.instance_uid in seen:
        raise ImageReadError("duplicate_instance", "Another file has the same SOPInstanceUID; only the first is kept.")


def _grouped(headers: Iterable[DicomHeader]) -> tuple[SeriesInfo, ...]:
    """Return the images that the files make."""
    by_series: dict[tuple[str, str, str], list[list[DicomHeader]]] = {}
    for header in headers:
        identity = header.identity
        parts = by_series.setdefault((identity.patient_id, identity.study_uid, identity.series_uid), [])
        match = next((part for part in parts if _belong_together(part[0], header)), None)
        if match is None:
            parts.append([header])
        else:
            match.append(header)
    return tuple(
        SeriesInfo(part[0].identity, tuple(part), number, len(parts))
        for _, parts in sorted(by_series.items())
        for number, part in enumerate(sorted(parts, key=len, reverse=True), start=1)
    )


def _belong_together(one: DicomHeader, other: DicomHeader) -> bool:
    """Tell whether two files of a series can be slices of one image."""
    if is_picture_class(one.sop_class) or one.pixels.n_frames > 1 or other.pixels.n_frames > 1:
        return False
    return _kind(one) == _kind(other) and _nearly_equal(_plane(one), _plane(other))


def _kind(header: DicomHeader) -> tuple[object, ...]:
    pixels = header.pixels
    shape = (pixels.rows, pixels.columns, pixels.samples, pixels.bits_allocated, pixels.is_signed, pixels.photometric)
    return (header.sop_class, header.frame_of_reference, header.identity.modality, *shape)


def _plane(header: DicomHeader) -> tuple[float, ...]:
    frame = header.frames[0]
    return (*(frame.orientation or ()), *(frame.spacing or ()))


def _nearly_equal(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, rtol=1e-3, atol=5e-4))
