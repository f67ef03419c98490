"""One line of a manifest, and the rules for its values."""

import re
from dataclasses import dataclass, fields
from datetime import date
from typing import Final

from medfl.errors import ManifestError

SPLITS: Final = ("train", "val", "test")
SEXES: Final = ("", "F", "M", "O")
IMAGE_SUFFIXES: Final = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".dcm")
_ISO_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MAX_AGE_YEARS: Final = 150.0


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study (visit) of one subject; every field is text, empty when absent.

    Attributes
    ----------
    subject, study : str
        Pseudonyms; `study` is unique in the manifest.
    site : str
        Hospital, empty while unassigned.
    image : str
        Path of the image, relative to the manifest's folder or absolute.
    target : str
        Path of the mask (same rule), or a class label; empty when the study has none.
    split : str
        ``"train"``, ``"val"``, ``"test"``, or empty while unassigned.
    visit_date : str
        YYYY-MM-DD.
    sex : str
        As in DICOM Patient's Sex: F, M or O.
    age : str
        Years, in [0, 150].
    scanner : str
        Free description of the device.
    """

    subject: str
    study: str
    site: str = ""
    image: str = ""
    target: str = ""
    split: str = ""
    visit_date: str = ""
    sex: str = ""
    age: str = ""
    scanner: str = ""

    def values(self) -> tuple[str, ...]:
        """Return all values in the order of `COLUMNS`."""
        return tuple(getattr(self, name) for name in COLUMNS)

    @property
    def has_mask(self) -> bool:
        """Whether the target names a mask file rather than a class label (judged by its suffix)."""
        return self.target.lower().endswith(IMAGE_SUFFIXES)


COLUMNS: Final = tuple(field.name for field in fields(StudyRow))
REQUIRED_COLUMNS: Final = COLUMNS[:6]


def check_values(row: StudyRow, line: int) -> None:
    """Check every value of one row.

    Parameters
    ----------
    row : StudyRow
    line : int
        Its line number, for the message.

    Raises
    ------
    ManifestError
        Names line and column, never a value.
    """
    for name, value in zip(COLUMNS, row.values(), strict=True):
        if _CONTROL.search(value):
            raise ManifestError(f"Line {line}, column {name}: control characters are not allowed.")
        if not _is_utf8(value):
            raise ManifestError(f"Line {line}, column {name}: must be text that UTF-8 can hold.")
        if value != value.strip():
            raise ManifestError(f"Line {line}, column {name}: leading or trailing blanks are not allowed.")
    for name, value in (("subject", row.subject), ("study", row.study), ("image", row.image)):
        if not value:
            raise ManifestError(f"Line {line}, column {name}: must not be empty.")
    if row.split not in ("", *SPLITS):
        raise ManifestError(f"Line {line}, column split: must be empty or one of {', '.join(SPLITS)}.")
    if row.sex not in SEXES:
        raise ManifestError(f"Line {line}, column sex: must be empty, F, M or O.")
    if row.visit_date and not is_iso_date(row.visit_date):
        raise ManifestError(f"Line {line}, column visit_date: must be a date written YYYY-MM-DD.")
    if row.age and not is_age(row.age):
        raise ManifestError(f"Line {line}, column age: must be years in [0, {_MAX_AGE_YEARS:.0f}].")


def _is_utf8(value: str) -> bool:
    """Tell whether the value holds no stray bytes, as the names of some old files do."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_iso_date(value: str) -> bool:
    """Tell whether the value is a date of the calendar, written YYYY-MM-DD."""
    if not _ISO_DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def is_age(value: str) -> bool:
    """Tell whether the value is a number of years in [0, 150]."""
    try:
        return 0.0 <= float(value) <= _MAX_AGE_YEARS
    except ValueError:
        return False
