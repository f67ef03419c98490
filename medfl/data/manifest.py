"""The manifest: which study belongs to which subject, site and split, and where its files are."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Final

from medfl.data.table import write_csv
from medfl.errors import ManifestError

SPLITS: Final = ("train", "val", "test")
SEXES: Final = ("", "F", "M", "O")
IMAGE_SUFFIXES: Final = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".dcm")
_SCHEMA: Final = "medfl/manifest/1"
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

    @property
    def has_mask(self) -> bool:
        """Whether the target names a mask file rather than a class label (judged by its suffix)."""
        return self.target.lower().endswith(IMAGE_SUFFIXES)


COLUMNS: Final = tuple(field.name for field in fields(StudyRow))
REQUIRED_COLUMNS: Final = COLUMNS[:6]


@dataclass(frozen=True)
class Manifest:
    """All studies of a data set, and the folder that relative paths start from.

    Attributes
    ----------
    rows : tuple of StudyRow
        In file order.
    folder : Path
        Folder of the manifest file.
    """

    rows: tuple[StudyRow, ...]
    folder: Path

    def digest(self) -> str:
        """Return the SHA-256 (64 hex digits) of the rows, whatever their order in the file."""
        rows = sorted((list(astuple(row)) for row in self.rows), key=lambda values: (values[1], values))
        text = json.dumps([_SCHEMA, list(COLUMNS), rows], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def image_path(self, row: StudyRow) -> Path:
        """Return where the image of `row` lies."""
        return self.folder / row.image

    def target_path(self, row: StudyRow) -> Path:
        """Return where the mask of `row` lies.

        Raises
        ------
        ManifestError
            If the target of `row` is empty or a class label.
        """
        if not row.has_mask:
            raise ManifestError("A mask path is needed as target; this study has a class label or no target at all.")
        return self.folder / row.target

    def subjects(self) -> tuple[str, ...]:
        """Return every subject once, sorted."""
        return tuple(sorted({row.subject for row in self.rows}))

    def sites(self) -> tuple[str, ...]:
        """Return every named site once, sorted."""
        return tuple(sorted({row.site for row in self.rows if row.site}))

    def where(self, *, site: str | None = None, split: str | None = None, subject: str | None = None) -> "Manifest":
        """Return the studies that match everything asked for; ``None`` matches all, ``""`` the unassigned.

        Parameters
        ----------
        site, split, subject : str or None
            Exact values to keep.
        """
        kept = (
            row
            for row in self.rows
            if (site is None or row.site == site)
            and (split is None or row.split == split)
            and (subject is None or row.subject == subject)
        )
        return replace(self, rows=tuple(kept))


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest (CSV, UTF-8, closed schema).

    Parameters
    ----------
    path : Path
        CSV file with the columns subject, study, site, image, target, split, and any of visit_date, sex, age, scanner.

    Raises
    ------
    ManifestError
        If the file is missing, not UTF-8 CSV, or breaks the schema; names line and column, never a value.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = _checked_header(next(reader, []))
            rows, lines = _read_rows(reader, columns)
    except FileNotFoundError:
        raise ManifestError("The manifest does not exist. Make one with `medfl data import`.") from None
    except OSError as error:
        raise ManifestError(f"The manifest must be a readable file: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ManifestError("The manifest must be UTF-8 text. Save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise ManifestError(f"The manifest must be a CSV table: {error}.") from None
    check_rows(rows, lines)
    return Manifest(tuple(rows), path.resolve().parent)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest in one step: the file is either the old one or the new one.

    Relative paths are rewritten when `path` lies in another folder than `manifest.folder`.

    Parameters
    ----------
    manifest : Manifest
        Rows to write.
    path : Path
        CSV file to create or replace.

    Raises
    ------
    ManifestError
        If a row breaks the schema; nothing is written then.
    """
    check_rows(manifest.rows, range(2, len(manifest.rows) + 2))
    moved = rebase(manifest, path.resolve().parent)
    write_csv(path, COLUMNS, (astuple(row) for row in moved.rows))


def rebase(manifest: Manifest, folder: Path) -> Manifest:
    """Return the same studies with relative paths starting from `folder`.

    Parameters
    ----------
    manifest : Manifest
        Rows with paths relative to its own folder, or absolute (these stay).
    folder : Path
        The new starting point.
    """
    if manifest.folder.resolve() == folder.resolve():
        return manifest

    def moved(value: str) -> str:
        if Path(value).is_absolute():
            return value
        return Path(os.path.relpath(manifest.folder.resolve() / value, folder.resolve())).as_posix()

    rows = (
        replace(row, image=moved(row.image), target=moved(row.target) if row.has_mask else row.target)
        for row in manifest.rows
    )
    return Manifest(tuple(rows), folder)


def check_rows(rows: Iterable[StudyRow], lines: Iterable[int]) -> None:
    """Check every value, and that studies are unique and no subject is in two splits.

    Parameters
    ----------
    rows : iterable of StudyRow
        What to check.
    lines : iterable of int
        Line number of each row, for the message.

    Raises
    ------
    ManifestError
        At the first row that breaks the schema; names line and column, never a value.
    """
    study_lines: dict[str, int] = {}
    split_lines: dict[str, tuple[str, int]] = {}
    for row, line in zip(rows, lines, strict=True):
        check_values(row, line)
        first = study_lines.setdefault(row.study, line)
        if first != line:
            raise ManifestError(f"Line {line}, column study: a study may appear once; it is also in line {first}.")
        if row.split:
            split, first = split_lines.setdefault(row.subject, (row.split, line))
            if split != row.split:
                raise ManifestError(
                    f"Line {line}, column split: a subject belongs to one split; here {row.split!r}, "
                    f"in line {first} {split!r}."
                )


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
    for name, value in zip(COLUMNS, astuple(row), strict=True):
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


def _checked_header(header: list[str]) -> list[str]:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:  # the line may not be a header at all, so it is not shown
        raise ManifestError(f"Line 1: the columns {', '.join(REQUIRED_COLUMNS)} must be there; missing: {missing}.")
    for position, name in enumerate(header, start=1):
        if name not in COLUMNS:
            raise ManifestError(f"Line 1, column {position}: unknown column. Allowed: {', '.join(COLUMNS)}.")
        if header.count(name) > 1:
            raise ManifestError(f"Line 1: column {name} must appear once.")
    return header


def _read_rows(reader: Iterable[list[str]], columns: list[str]) -> tuple[list[StudyRow], list[int]]:
    rows: list[StudyRow] = []
    lines: list[int] = []
    for line, values in enumerate(reader, start=2):
        if not values:
            continue
        if len(values) != len(columns):
            raise ManifestError(f"Line {line}: {len(columns)} values are needed, found {len(values)}.")
        named = dict(zip(columns, values, strict=True))
        rows.append(StudyRow(*(named.get(name, "") for name in COLUMNS)))
        lines.append(line)
    return rows, lines


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
