"""Heuristics for values that look like protected health information; they say where, never what.

They are meant to catch accidents (a file named after a patient), and a clean result proves nothing. Looked at are
subject, study, scanner, class label, and the file names without their folders and suffixes. Values that are wholly
hexadecimal with 16 or more digits, or 20 letters and digits of base32 as `medfl.imaging.deidentify.pseudonym` makes
them, are taken for pseudonyms. Kinds:

``name``
    ``Family^Given`` as DICOM writes it, or two neighboring words of three or more letters that are both capitalized or
    both in capitals, unless one of them is a usual word of imaging.
``date``
    A day between 1900 and 2099 as YYYYMMDD, YYYY-MM-DD or DD.MM.YYYY, with any of ``-_./`` between the parts.
``record number``
    Six to twelve digits in a row that are not such a date.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from medfl.data.manifest import StudyRow

_PSEUDONYM = re.compile(r"[a-z2-7]{20}|[0-9a-f]{16,}")
_CARET_NAME = re.compile(r"[^\W\d_]{2,}\^[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+")
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-_./]?(?:0[1-9]|1[0-2])[-_./]?(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])[-_./](?:0[1-9]|1[0-2])[-_./](?:19|20)\d\d)(?!\d)"
)
_RECORD_NUMBER = re.compile(r"(?<!\d)\d{6,12}(?!\d)")
_IMAGING_WORDS = frozenset(
    """
    abdomen anterior axial bacteria brain chest contrast coronal data electric flair frontal general head healthcare
    heart hippocampus image images infarct kidney label labels lateral left lesion liver lung lungs mask masks medical
    normal phantom philips pneumonia post posterior prostate right sagittal scan scanner segmentation series siemens
    site spleen study system test train tumor tumour val virus visit volume xray
    """.split()
)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A column of one row that looks like protected health information, and why."""

    column: str
    kind: str


def suspicions(row: StudyRow) -> tuple[Suspicion, ...]:
    """Return the columns of `row` that look like protected health information, each with its first kind.

    Parameters
    ----------
    row : StudyRow
    """
    values = {
        "subject": row.subject,
        "study": row.study,
        "image": _stem(row.image),
        "target": _stem(row.target) if row.has_mask else row.target,
        "scanner": row.scanner,
    }
    kinds = ((column, kind_of(value)) for column, value in values.items())
    return tuple(Suspicion(column, kind) for column, kind in kinds if kind)


def kind_of(value: str) -> str:
    """Return ``"name"``, ``"date"``, ``"record number"`` or nothing.

    Parameters
    ----------
    value : str
        An identifier or a file name.
    """
    if _PSEUDONYM.fullmatch(value):
        return ""
    if _CARET_NAME.search(value) or _has_two_name_words(value):
        return "name"
    if _DATE.search(value):
        return "date"
    return "record number" if _RECORD_NUMBER.search(value) else ""


def _has_two_name_words(value: str) -> bool:
    words = list(_WORD.finditer(value))
    return any(
        second.start() - first.end() <= 2
        and not any(letter.isdigit() for letter in value[first.end() : second.start()])
        and _style(first[0]) == _style(second[0]) != ""
        for first, second in pairwise(words)
    )


def _style(word: str) -> str:
    """Return how a word that could be part of a name is written, or nothing."""
    if len(word) < 3 or word.lower() in _IMAGING_WORDS:
        return ""
    if word.isupper():
        return "capitals"
    return "capitalized" if word[0].isupper() and word[1:].islower() else ""


def _stem(path: str) -> str:
    return PurePosixPath(path).name.split(".nii")[0].rsplit(".", 1)[0] if path else ""
