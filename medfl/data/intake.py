"""Candidate studies to manifest rows: what can be read goes in, everything else gets a quarantine row."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medfl.data.candidates import Candidate, Found
from medfl.data.copying import write_copy
from medfl.data.manifest import Manifest, StudyRow, write_manifest
from medfl.data.quarantine import Quarantined, count_reasons, write_quarantine
from medfl.data.reading import ImageReader
from medfl.data.study_row import check_values
from medfl.errors import DataError, ImageReadError, ManifestError
from medfl.imaging.bounded import BoundedReader
from medfl.imaging.deidentify import create_pseudonym_key, load_pseudonym_key, pseudonym
from medfl.imaging.volume import Volume

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


@dataclass(frozen=True, slots=True)
class NamedRow:
    """A manifest row, and what the quarantine table would call its image."""

    row: StudyRow
    name: str = field(repr=False)


@dataclass(frozen=True)
class ImportReport:
    """What an import left behind.

    Attributes
    ----------
    manifest : Manifest
    manifest_path, quarantine_path : Path
        The two tables.
    quarantined : tuple of Quarantined
    notes : tuple of str
        Assumptions that were made.
    """

    manifest: Manifest
    manifest_path: Path
    quarantine_path: Path
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]

    def reasons(self) -> dict[str, int]:
        """Return how many files were set aside for each reason."""
        return count_reasons(self.quarantined)

    def to_dict(self) -> dict[str, object]:
        """Return counts and paths as JSON can hold them, without the name of any file of the source."""
        return {
            "manifest": str(self.manifest_path),
            "quarantine": str(self.quarantine_path),
            "studies": len(self.manifest.rows),
            "subjects": len(self.manifest.subjects()),
            "sites": list(self.manifest.sites()),
            "set_aside": self.reasons(),
            "notes": list(self.notes),
            "digest": self.manifest.digest(),
        }


def import_found(
    found: Found,
    out: Path,
    *,
    copy: bool = False,
    key: bytes | None = None,
    reader: ImageReader | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Read every candidate and write the quarantine table, then the manifest; parameters as in `import_nifti`."""
    out.mkdir(parents=True, exist_ok=True)
    key = pseudonym_key(out / "pseudonym.key") if key is None else key
    rows: list[NamedRow] = []
    quarantined = list(found.quarantined)
    with _opened(reader) as source:
        for done, candidate in enumerate(found.candidates, start=1):
            imported = _import(candidate, source, key, out if copy else None)
            if isinstance(imported, StudyRow):
                rows.append(NamedRow(imported, candidate.name))
            else:
                quarantined.extend(imported)
            if progress is not None:
                progress(done, len(found.candidates))
    return finish(rows, quarantined, found.notes, out)


def finish(rows: list[NamedRow], quarantined: list[Quarantined], notes: tuple[str, ...], out: Path) -> ImportReport:
    """Drop what the manifest forbids, then write both tables, the manifest last.

    Parameters
    ----------
    rows : list of NamedRow
    quarantined, notes
        What is known so far.
    out : Path
        Folder of the tables.

    Raises
    ------
    DataError
        If no row is left; the quarantine table is written all the same.
    """
    kept, refused = _consistent(rows)
    quarantined = [*quarantined, *refused]
    write_quarantine(quarantined, out / "quarantine.csv")
    if not kept:
        raise DataError(
            f"Not one study could be imported; {len(quarantined)} files were set aside "
            f"({', '.join(count_reasons(quarantined)) or 'none was found'}). See quarantine.csv in the output folder."
        )
    manifest = Manifest(kept, out.resolve())
    write_manifest(manifest, out / "manifest.csv")
    return ImportReport(manifest, out / "manifest.csv", out / "quarantine.csv", tuple(quarantined), notes)


def pseudonym_key(path: Path) -> bytes:
    """Return the key in `path`, creating it (readable by its owner only) if the file does not exist."""
    if not path.exists():
        create_pseudonym_key(path)
    return load_pseudonym_key(path)


def checked_row(row: StudyRow) -> StudyRow:
    """Return `row` if a manifest may hold it.

    Raises
    ------
    ImageReadError
        With reason ``"bad_value"``; names the column, never the value.
    """
    try:
        check_values(row, line=0)
    except ManifestError as error:
        raise ImageReadError("bad_value", str(error).removeprefix("Line 0, ")) from None
    return row


@contextmanager
def _opened(reader: ImageReader | None) -> Iterator[ImageReader]:
    if reader is not None:
        yield reader
    else:
        with BoundedReader() as bounded:
            yield bounded


def _import(
    candidate: Candidate, reader: ImageReader, key: bytes, copies: Path | None
) -> StudyRow | tuple[Quarantined, ...]:
    """Return the manifest row of a candidate, or the files to set aside if it has none."""
    image = _read(reader, candidate.image)
    mask = None if candidate.mask is None else _read(reader, candidate.mask)
    refused: list[Quarantined] = []
    if isinstance(mask, ImageReadError):
        refused.append(Quarantined(candidate.mask_name, mask.reason, str(mask)))
    if isinstance(image, ImageReadError):
        return (*refused, Quarantined(candidate.name, image.reason, str(image)))
    if isinstance(mask, ImageReadError):
        sentence = "The image must have a readable mask; it is set aside with its own reason."
        return (*refused, Quarantined(candidate.name, "bad_target", sentence))
    try:
        return _row(candidate, image, mask, key, copies)
    except ImageReadError as error:
        return (Quarantined(candidate.name, error.reason, str(error)),)


def _read(reader: ImageReader, path: Path) -> Volume | ImageReadError:
    """Return the image, or why there is none."""
    try:
        return reader.read(path)
    except ImageReadError as error:
        return error


def _text(name: str) -> str:
    """Return a name as UTF-8 can hold it; stray bytes of old file systems become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _row(candidate: Candidate, image: Volume, mask: Volume | None, key: bytes, copies: Path | None) -> StudyRow:
    if mask is not None and mask.spatial_shape != image.spatial_shape:
        shapes = f"{image.spatial_shape} and {mask.spatial_shape}"
        raise ImageReadError("mask_mismatch", f"Image and mask must have one shape, found {shapes}.")
    study = pseudonym(key, "study", _text(candidate.study))
    image_path, target = str(candidate.image.resolve()), candidate.label
    if candidate.mask is not None:
        target = str(candidate.mask.resolve())
    if copies is not None:
        image_path = write_copy(image, candidate.image, copies, f"images/{study}")
    if copies is not None and mask is not None and candidate.mask is not None:
        target = write_copy(mask, candidate.mask, copies, f"labels/{study}")
    row = StudyRow(
        subject=pseudonym(key, "subject", _text(candidate.subject)),
        study=study,
        site=candidate.site,
        image=image_path,
        target=target,
        split=candidate.split,
        visit_date=candidate.visit_date,
        sex=candidate.sex,
        age=candidate.age,
        scanner=candidate.scanner,
    )
    return checked_row(row)


def _consistent(rows: list[NamedRow]) -> tuple[tuple[StudyRow, ...], list[Quarantined]]:
    """Return the rows whose study is new and whose subject is in one split, and the others as quarantined."""
    splits: dict[str, set[str]] = defaultdict(set)
    for named in rows:
        splits[named.row.subject] |= {named.row.split} - {""}
    kept: dict[str, StudyRow] = {}
    refused: list[Quarantined] = []
    for named in rows:
        row = named.row
        if row.study in kept:
            sentence = "A study must be listed once; the first one was taken."
            refused.append(Quarantined(named.name, "same_study", sentence))
        elif len(splits[row.subject]) > 1:
            sentence = "A subject must be in one split; this one is in several."
            refused.append(Quarantined(named.name, "two_splits", sentence))
        else:
            kept[row.study] = row
    return tuple(kept.values()), refused
