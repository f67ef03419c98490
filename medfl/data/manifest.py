"""The manifest: which study belongs to which subject, site and split, and where its files are."""

import csv
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from medfl.data.study_row import COLUMNS, REQUIRED_COLUMNS, SPLITS, StudyRow, check_values
from medfl.data.table import write_csv
from medfl.errors import ManifestError

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Manifest",
    "StudyRow",
    "check_rows",
    "read_manifest",
    "rebase",
    "write_manifest",
]

_SCHEMA: Final = "medfl/manifest/1"


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
        rows = sorted((list(row.values()) for row in self.rows), key=lambda values: (values[1], values))
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
    write_csv(path, COLUMNS, (row.values() for row in moved.rows))


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
