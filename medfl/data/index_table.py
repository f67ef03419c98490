"""Candidate studies from a CSV file that lists pictures."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medfl.data.candidates import Candidate, Found, compile_subject_pattern, date_of, subject_of
from medfl.data.quarantine import Quarantined
from medfl.data.study_row import COLUMNS as MANIFEST_FIELDS
from medfl.data.study_row import is_age
from medfl.errors import ConfigError, DataError, ImageReadError

_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SEXES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M", "o": "O", "other": "O"}


@dataclass(frozen=True, kw_only=True)
class IndexColumns:
    """Which column of an index holds which field of the manifest; an empty name means that there is none.

    Attributes
    ----------
    image : str
        Path of the image below the folder of images.
    target : str
        Path of the mask below the folder of targets, or the class label where there is no such folder.
    subject, study, site, split, visit_date, sex, age, scanner : str
        As in the manifest. Without `study` every image is a study of its own.
    subject_pattern : str
        Regular expression over the image's path, with a group ``subject`` or one group; it finds the subject where the
        column is empty or absent.
    drop_if_set : str
        Rows with a value in this column are left out, e.g. known duplicates.
    """

    image: str
    target: str = ""
    subject: str = ""
    study: str = ""
    site: str = ""
    split: str = ""
    visit_date: str = ""
    sex: str = ""
    age: str = ""
    scanner: str = ""
    subject_pattern: str = ""
    drop_if_set: str = ""

    def named(self) -> tuple[str, ...]:
        """Return the columns that the index must have."""
        names = (
            self.image,
            self.target,
            self.subject,
            self.study,
            self.site,
            self.split,
            self.visit_date,
            self.sex,
            self.age,
            self.scanner,
            self.drop_if_set,
        )
        return tuple(name for name in names if name)


def parse_columns(pairs: Iterable[str], *, drop_if_set: str = "") -> IndexColumns:
    """Return the columns named by texts such as ``image=file``.

    Parameters
    ----------
    pairs : iterable of str
        ``field=column``, where field is one of the manifest's.
    drop_if_set : str
        As in `IndexColumns`.

    Raises
    ------
    ConfigError
        If a field is unknown, named twice, or the image's is missing.
    """
    named: dict[str, str] = {}
    for pair in pairs:
        field, _, column = pair.partition("=")
        if field not in MANIFEST_FIELDS or not column or field in named:
            raise ConfigError(f"Name each column once as field=COLUMN; the fields are {', '.join(MANIFEST_FIELDS)}.")
        named[field] = column
    if "image" not in named:
        raise ConfigError("The column with the image's path must be named: image=COLUMN.")
    return IndexColumns(**named, drop_if_set=drop_if_set)


def find_indexed(index: Path, images: Path, targets: Path | None, columns: IndexColumns, *, site: str = "") -> Found:
    """Read an index and return the studies it lists.

    Parameters
    ----------
    index : Path
        CSV file with a header, UTF-8.
    images, targets : Path
        Folders that the paths in the index start from; without `targets` the target is a class label.
    columns : IndexColumns
        Names of the columns.
    site : str
        Site of studies whose own is empty.

    Raises
    ------
    ConfigError
        If a column is missing or the pattern is not usable.
    DataError
        If the index is not a readable CSV file.
    """
    pattern = compile_subject_pattern(columns.subject_pattern)
    candidates: list[Candidate] = []
    quarantined: list[Quarantined] = []
    origins: Counter[str] = Counter()
    guessed: set[str] = set()
    for line, row in _read(index, columns):
        if columns.drop_if_set and row[columns.drop_if_set]:
            origins["dropped"] += 1
            continue
        image = row[columns.image]
        try:
            subject, origin = _subject(row, columns, pattern)
            candidate = _candidate(row, subject, images, targets, columns)
        except ImageReadError as error:
            file = f"{images.name}/{image}" if image else f"{index.name}, line {line}"
            quarantined.append(Quarantined(file, error.reason, str(error)))
            continue
        origins[origin] += 1
        origins["emptied"] += _emptied(row, columns, candidate)
        if origin == "pattern":
            guessed.add(subject)
        candidates.append(replace(candidate, site=candidate.site or site))
    return Found(tuple(candidates), tuple(quarantined), _notes(columns, origins, len(guessed)))


def _read(index: Path, columns: IndexColumns) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and values of each row."""
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            missing = sorted(set(columns.named()) - set(reader.fieldnames or ()))
            if missing:
                raise ConfigError(f"The index must have the columns {missing}; they were not found in its first line.")
            for row in reader:
                yield reader.line_num, {name: row[name].strip() for name in columns.named()}
    except OSError as error:
        raise DataError(f"The index must be a readable file: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError("The index must be a CSV table in UTF-8.") from None


def _subject(row: dict[str, str], columns: IndexColumns, pattern: re.Pattern[str] | None) -> tuple[str, str]:
    """Return the subject's identifier and where it is from: ``"column"``, ``"pattern"`` or ``"own"``."""
    image = row[columns.image]
    if columns.subject and row[columns.subject]:
        return row[columns.subject], "column"
    if pattern is None:
        return image, "own"
    match = pattern.search(image)
    if match is None or not subject_of(match):
        raise ImageReadError("no_subject", "Without a value in the subject column the subject pattern must match.")
    return subject_of(match), "pattern"


def _candidate(
    row: dict[str, str], subject: str, images: Path, targets: Path | None, columns: IndexColumns
) -> Candidate:
    def value(column: str) -> str:
        return row[column] if column else ""

    target = value(columns.target)
    if columns.target and not target:
        raise ImageReadError("no_target", "The index must name a target for the image.")
    image = row[columns.image]
    return Candidate(
        subject=subject,
        study=f"{subject}/{value(columns.study)}" if value(columns.study) else image,
        image=_inside(images, image),
        name=f"{images.name}/{image}",
        mask=None if targets is None or not target else _inside(targets, target),
        mask_name="" if targets is None else f"{targets.name}/{target}",
        label=target if targets is None else "",
        site=value(columns.site),
        split=_SPLITS.get(value(columns.split).lower(), value(columns.split).lower()),
        visit_date=date_of(value(columns.visit_date)),
        sex=_SEXES.get(value(columns.sex).lower(), ""),
        age=_age(value(columns.age)),
        scanner=value(columns.scanner),
    )


def _emptied(row: dict[str, str], columns: IndexColumns, candidate: Candidate) -> int:
    """Count the attributes that the index holds and the candidate does not."""
    pairs = ((columns.sex, candidate.sex), (columns.age, candidate.age), (columns.visit_date, candidate.visit_date))
    return sum(bool(column and row[column] and not kept) for column, kept in pairs)


def _age(text: str) -> str:
    """Return years; DICOM's 061Y is understood, anything else that is no age becomes empty."""
    years = text.upper().removesuffix("Y").lstrip("0") or ("0" if text else "")
    return years if is_age(years) else ""


def _inside(folder: Path, relative: str) -> Path:
    """Return the path of a file that the index names, if it lies below `folder`."""
    parts = PurePosixPath(relative)
    if not relative or parts.is_absolute() or ".." in parts.parts:
        raise ImageReadError("outside_folder", "The index must name a file below the folder of images or targets.")
    path = folder / parts
    if not path.is_file():
        raise ImageReadError("not_a_file", "The index must name a file that exists.")
    return path


def _notes(columns: IndexColumns, origins: Counter[str], guessed: int) -> tuple[str, ...]:
    notes = {
        "dropped": f"{origins['dropped']} rows with a value in column {columns.drop_if_set} were left out.",
        "pattern": f"Assumption: {origins['pattern']} images are from {guessed} subjects found by the subject pattern "
        "in the file name.",
        "emptied": f"{origins['emptied']} values of sex, age or visit date were not understood and are left empty.",
        "own": f"Assumption: {origins['own']} images are each from a subject of its own.",
    }
    return tuple(text for origin, text in notes.items() if origins[origin])
