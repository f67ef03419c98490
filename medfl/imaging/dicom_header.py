"""Reading what a DICOM file says about itself, without its pixels."""

import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from medfl.errors import ImageReadError
from medfl.imaging.dicom_attributes import age_years, person_text, required_text, short, text, texts
from medfl.imaging.dicom_facts import DicomHeader, Identity, PixelLayout
from medfl.imaging.dicom_frames import FRAME_KEYWORDS, read_frames
from medfl.imaging.dicom_layout import ENCAPSULATED, NATIVE, check_pixels
from medfl.imaging.dicom_screen import refuse_unsuitable
from medfl.imaging.quiet import quiet_readers
from medfl.imaging.regular_file import open_regular

_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "PatientSex", "PatientAge", "StudyDate", "Modality", "ManufacturerModelName"),
    *("ImageType", "BurnedInAnnotation", "ConversionType", "ModalityLUTSequence"),
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *FRAME_KEYWORDS,
)
_TAGS = [tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None]
_FLOAT_PIXEL_DATA, _PIXEL_DATA = 0x7FE00008, 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF
#: Values longer than this are passed over instead of read.
_LONGEST_VALUE = 1 << 20


def read_header(path: Path) -> DicomHeader:
    """Read the header of a DICOM image that may be imported.

    Parameters
    ----------
    path : Path
        A DICOM file with preamble and file meta information.

    Raises
    ------
    ImageReadError
        With reason ``"not_dicom"``, ``"dicomdir"``, ``"missing_attribute"``, ``"missing_pixels"``,
        ``"bad_header"``, ``"nested_too_deep"``, ``"unsupported_transfer_syntax"``, ``"unsupported_bits"``,
        ``"unsupported_photometric"``, ``"unsupported_lut"``, ``"bad_dimensions"``, ``"bad_scaling"``,
        ``"unreadable"``, ``"not_a_file"``, or one of `medfl.imaging.dicom_screen.refuse_unsuitable`.
    """
    try:
        with quiet_readers(), BufferedReader(open_regular(path)) as file:
            return _read(path, file)
    except ImageReadError:
        raise
    except OSError as error:
        raise ImageReadError("unreadable", f"The file cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise ImageReadError("nested_too_deep", "Sequences are nested too deep to be plausible.") from None
    except Exception as error:
        # The parser's own message may quote a patient's data; only its type is passed on.
        raise ImageReadError("bad_header", f"The header cannot be decoded ({type(error).__name__}).") from None


@dataclass
class _PixelStop:
    """Ends the reading at the pixels and notes where they are."""

    file: BinaryIO
    tag: int = 0
    vr: str = ""
    offset: int = 0
    length: int = 0

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        """Stop at PixelData or its floating-point variants."""
        if tag >> 16 < 0x7FE0 or int(tag) < _FLOAT_PIXEL_DATA:
            return False
        self.tag, self.vr, self.offset, self.length = int(tag), vr or "OW", self.file.tell(), length
        return True


def _read(path: Path, file: BinaryIO) -> DicomHeader:
    """Parse an open file."""
    transfer_syntax = _transfer_syntax(file)
    stop = _PixelStop(file)
    dataset = read_dataset(
        file,
        is_implicit_VR=transfer_syntax == uid.ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax != uid.ExplicitVRBigEndian,
        stop_when=stop,
        defer_size=_LONGEST_VALUE,
        specific_tags=list(_TAGS),
    )
    sop_class = required_text(dataset, "SOPClassUID")
    refuse_unsuitable(
        sop_class,
        text(dataset, "Modality"),
        image_type=texts(dataset, "ImageType"),
        burned_in=text(dataset, "BurnedInAnnotation"),
        conversion_type=text(dataset, "ConversionType"),
    )
    if "ModalityLUTSequence" in dataset:
        raise ImageReadError("unsupported_lut", "Values must be scaled by slope and intercept, not by a lookup table.")
    pixels = _pixel_layout(dataset, transfer_syntax, stop, os.fstat(file.fileno()))
    return DicomHeader(
        path=path,
        instance_uid=required_text(dataset, "SOPInstanceUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        sop_class=sop_class,
        identity=_identity(dataset),
        pixels=pixels,
        frames=read_frames(dataset, pixels.n_frames),
    )


def _transfer_syntax(file: BinaryIO) -> str:
    """Read the file meta information and leave the file at the start of the data set."""
    if file.read(132)[128:] != b"DICM":
        raise ImageReadError("not_dicom", "A DICOM file must hold 'DICM' at byte 128; this does not.")
    meta = read_dataset(
        file,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, vr, length: tag >> 16 != 2,
        defer_size=_LONGEST_VALUE,
    )
    if text(meta, "MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
        raise ImageReadError("dicomdir", "A DICOMDIR is a table of contents, not an image.")
    transfer_syntax = required_text(meta, "TransferSyntaxUID")
    if transfer_syntax not in NATIVE | ENCAPSULATED:
        raise ImageReadError("unsupported_transfer_syntax", "The transfer syntax is unknown, deflated or a video.")
    return transfer_syntax


def _pixel_layout(dataset: Dataset, transfer_syntax: str, stop: _PixelStop, status: os.stat_result) -> PixelLayout:
    """Return where and how the pixels are kept."""
    if stop.tag != _PIXEL_DATA:
        raise ImageReadError("missing_pixels", "The attribute PixelData must be present; it is not.")
    bits_allocated = short(dataset, "BitsAllocated")
    pixels = PixelLayout(
        rows=short(dataset, "Rows"),
        columns=short(dataset, "Columns"),
        samples=short(dataset, "SamplesPerPixel", 1),
        n_frames=int(text(dataset, "NumberOfFrames") or 1),
        bits_allocated=bits_allocated,
        bits_stored=short(dataset, "BitsStored", bits_allocated),
        is_signed=short(dataset, "PixelRepresentation", 0) == 1,
        is_planar=short(dataset, "PlanarConfiguration", 0) == 1,
        photometric=required_text(dataset, "PhotometricInterpretation"),
        transfer_syntax=transfer_syntax,
        vr=stop.vr,
        offset=stop.offset,
        length=-1 if stop.length == _UNDEFINED_LENGTH else stop.length,
        file_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
    )
    check_pixels(pixels, short(dataset, "HighBit", pixels.bits_stored - 1))
    return pixels


def _identity(dataset: Dataset) -> Identity:
    """Return who and what was imaged."""
    sex = text(dataset, "PatientSex").upper()
    return Identity(
        patient_id=person_text(dataset, "PatientID"),
        study_uid=required_text(dataset, "StudyInstanceUID"),
        series_uid=required_text(dataset, "SeriesInstanceUID"),
        modality=text(dataset, "Modality"),
        study_date=text(dataset, "StudyDate"),
        sex=sex if sex in ("M", "F", "O") else "",
        age_years=age_years(text(dataset, "PatientAge").upper()),
        scanner=person_text(dataset, "ManufacturerModelName"),
    )
