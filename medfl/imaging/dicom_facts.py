"""What a DICOM file says about itself, as plain values that can travel as JSON."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Identity:
    """Who and what was imaged. Not to be shown or logged: the importer replaces the first three by pseudonyms.

    Attributes
    ----------
    patient_id, study_uid, series_uid : str
        As stored; the patient id may be empty.
    modality, scanner : str
        Such as ``"CT"``; the scanner's model name.
    study_date : str
        ``YYYYMMDD`` or empty.
    sex : str
        ``"M"``, ``"F"``, ``"O"`` or empty.
    age_years : float or None
    """

    patient_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    modality: str
    study_date: str = field(repr=False)
    sex: str = field(repr=False)
    age_years: float | None = field(repr=False)
    scanner: str = field(repr=False)


@dataclass(frozen=True)
class PixelLayout:
    """Where and how a file keeps its pixels.

    Attributes
    ----------
    rows, columns, samples, n_frames : int
        At least 1.
    bits_allocated, bits_stored : int
        8, 16 or 32, and 1 to that.
    is_signed, is_planar : bool
    photometric, transfer_syntax, vr : str
    offset, length : int
        First byte of the value of PixelData, and its length in bytes, or -1 when it is encapsulated.
    file_bytes, modified_ns : int
        Size and time of the file when this was read, to notice a change.
    """

    rows: int
    columns: int
    samples: int
    n_frames: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    is_planar: bool
    photometric: str
    transfer_syntax: str
    vr: str
    offset: int
    length: int
    file_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Frame:
    """Place and scale of one frame.

    Attributes
    ----------
    position : tuple of 3 floats or None
        Center of the first pixel, in millimeters (LPS).
    orientation : tuple of 6 floats or None
        Directions in which the columns and the rows count up (LPS).
    spacing : tuple of 2 floats or None
        Between rows and between columns, in millimeters.
    thickness : float or None
        Distance to a neighboring slice, for a frame that has none beside it.
    slope, intercept : float
        Stored number to value.
    """

    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    thickness: float | None
    slope: float
    intercept: float


@dataclass(frozen=True)
class DicomHeader:
    """Everything medfl uses of one DICOM image file.

    Attributes
    ----------
    path : Path
    instance_uid, frame_of_reference, sop_class : str
    identity : Identity
    pixels : PixelLayout
    frames : tuple of Frame
        One per frame, in the file's order.
    """

    path: Path = field(repr=False)
    instance_uid: str = field(repr=False)
    frame_of_reference: str = field(repr=False)
    sop_class: str
    identity: Identity
    pixels: PixelLayout
    frames: tuple[Frame, ...] = field(repr=False)


def header_to_json(header: DicomHeader) -> dict[str, Any]:
    """Return a header as JSON values."""
    return {**asdict(header), "path": str(header.path)}


def header_from_json(value: dict[str, Any]) -> DicomHeader:
    """Build a header from what `header_to_json` returned.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the value is something else.
    """
    frames = tuple(
        Frame(
            position=_vector(frame["position"]),
            orientation=_vector(frame["orientation"]),
            spacing=_vector(frame["spacing"]),
            thickness=None if frame["thickness"] is None else float(frame["thickness"]),
            slope=float(frame["slope"]),
            intercept=float(frame["intercept"]),
        )
        for frame in value["frames"]
    )
    return DicomHeader(
        path=Path(value["path"]),
        instance_uid=str(value["instance_uid"]),
        frame_of_reference=str(value["frame_of_reference"]),
        sop_class=str(value["sop_class"]),
        identity=Identity(**value["identity"]),
        pixels=PixelLayout(**value["pixels"]),
        frames=frames,
    )


def _vector(value: list[float] | None) -> Vector | None:
    return None if value is None else tuple(float(number) for number in value)
