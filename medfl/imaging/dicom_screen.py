"""Which DICOM files may be imported at all.

Only classes that are known to hold radiological images are let in. Until a gate for burned-in text exists, everything
that commonly carries a patient's name in its pixels stays out: ultrasound, secondary captures, screen shots, and
whatever says so itself (BurnedInAnnotation).
"""

from medfl.errors import ImageReadError

_STORAGE = "1.2.840.10008.5.1.4.1.1."

#: CT, MR and PET: classic, enhanced and legacy-converted.
_VOLUME_CLASSES = frozenset(
    _STORAGE + ending for ending in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")
)
#: Computed and digital radiography, mammography, ophthalmic photography.
_PICTURE_CLASSES = frozenset(
    _STORAGE + ending for ending in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "77.1.5.1", "77.1.5.2")
)
_ULTRASOUND_CLASSES = frozenset(_STORAGE + ending for ending in ("3", "3.1", "6", "6.1", "6.2"))
_SECONDARY_CLASSES = frozenset(_STORAGE + ending for ending in ("7", "7.1", "7.2", "7.3", "7.4"))
#: Waveforms, presentation states, segmentations and registrations, reports, annotations, documents, radiotherapy.
_NOT_AN_IMAGE = tuple(_STORAGE + start for start in ("9.", "11.", "66", "88.", "91.1", "104.", "481."))

_LOCALIZER_TYPES = frozenset({"LOCALIZER", "SCOUT"})
_SCREEN_TYPES = frozenset({"SCREEN SAVE", "SCREEN CAPTURE", "SCREENSHOT"})
#: Digitized video or film, scanned document, drawing, scanned image.
_CAPTURED = frozenset({"DV", "DF", "SD", "DRW", "SI"})


def is_picture_class(sop_class: str) -> bool:
    """Tell whether each image of this class stands alone, in two dimensions."""
    return sop_class in _PICTURE_CLASSES


def refuse_unsuitable(
    sop_class: str, modality: str, *, image_type: tuple[str, ...], burned_in: str, conversion_type: str
) -> None:
    """Let an image pass that may be imported.

    Parameters
    ----------
    sop_class, modality, burned_in, conversion_type : str
        The attributes SOPClassUID, Modality, BurnedInAnnotation and ConversionType; empty when absent.
    image_type : tuple of str
        The values of ImageType.

    Raises
    ------
    ImageReadError
        With reason ``"not_an_image"``, ``"unsupported_class"``, ``"ultrasound"``, ``"secondary_capture"``,
        ``"burned_in_annotation"`` or ``"localizer"``.
    """
    types = {value.upper() for value in image_type}
    if sop_class in _ULTRASOUND_CLASSES or modality in ("US", "IVUS"):
        raise ImageReadError("ultrasound", "Ultrasound often shows the patient's name; it is not imported.")
    if sop_class.startswith(_NOT_AN_IMAGE):
        raise ImageReadError("not_an_image", "The object is a report, plan, segmentation or signal, not an image.")
    if sop_class in _SECONDARY_CLASSES or modality in ("OT", "SC") or types & _SCREEN_TYPES:
        raise ImageReadError("secondary_capture", "Screen shots often show the patient's name; they are not imported.")
    if conversion_type.upper() in _CAPTURED:
        raise ImageReadError("secondary_capture", "Scanned and digitized images often show names; not imported.")
    if burned_in.upper() == "YES":
        raise ImageReadError("burned_in_annotation", "BurnedInAnnotation is YES; such images are not imported.")
    if sop_class not in _VOLUME_CLASSES | _PICTURE_CLASSES:
        raise ImageReadError("unsupported_class", "Only CT, MR, PET, radiographs and fundus photographs are imported.")
    if types & _LOCALIZER_TYPES:
        raise ImageReadError("localizer", "A localizer only plans the scan; it is not imported.")
