"""Place and scale of every frame of a DICOM file, classic or enhanced multi-frame."""

from pydicom.dataset import Dataset

from medfl.errors import ImageReadError
from medfl.imaging.dicom_attributes import number, numbers
from medfl.imaging.dicom_facts import Frame

#: The attributes that `read_frames` looks at.
FRAME_KEYWORDS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)


def read_frames(dataset: Dataset, n_frames: int) -> tuple[Frame, ...]:
    """Return place and scale of each frame, in the file's order.

    Parameters
    ----------
    dataset : Dataset
    n_frames : int
        As announced by the header.

    Raises
    ------
    ImageReadError
        With reason ``"bad_header"`` or ``"bad_scaling"``.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return (_frame(dataset, dataset, dataset, dataset),) * n_frames
    if len(per_frame) != n_frames:
        raise ImageReadError(
            "bad_header", f"{n_frames} frames are announced; there are descriptions of {len(per_frame)}."
        )
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return tuple(
        _frame(
            _group("PlanePositionSequence", own, shared),
            _group("PlaneOrientationSequence", own, shared),
            _group("PixelMeasuresSequence", own, shared),
            _group("PixelValueTransformationSequence", own, shared),
        )
        for own in per_frame
    )


def _group(keyword: str, own: Dataset, shared: Dataset) -> Dataset:
    """Return a functional group of one frame, or the one that all frames share."""
    items = own.get(keyword) or shared.get(keyword)
    return items[0] if items else Dataset()


def _frame(position: Dataset, orientation: Dataset, measures: Dataset, transformation: Dataset) -> Frame:
    """Build a frame from the data sets that hold its parts."""
    slope = number(transformation, "RescaleSlope")
    if slope == 0:
        raise ImageReadError("bad_scaling", "RescaleSlope must not be 0.")
    return Frame(
        position=numbers(position, "ImagePositionPatient", 3),
        orientation=numbers(orientation, "ImageOrientationPatient", 6),
        spacing=numbers(measures, "PixelSpacing", 2) or numbers(measures, "ImagerPixelSpacing", 2),
        thickness=number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness"),
        slope=1.0 if slope is None else slope,
        intercept=number(transformation, "RescaleIntercept") or 0.0,
    )
