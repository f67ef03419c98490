"""The three ways in: NIfTI volumes, pictures and DICOM series become a manifest."""

from dataclasses import replace
from pathlib import Path

from medfl.data.candidates import date_of, find_classes, find_nifti, shown_name
from medfl.data.index_table import IndexColumns, find_indexed
from medfl.data.intake import ImportReport, NamedRow, Progress, checked_row, finish, import_found, pseudonym_key
from medfl.data.manifest import StudyRow
from medfl.data.quarantine import Quarantined
from medfl.data.reading import ImageReader
from medfl.errors import ConfigError, DataError, ImageReadError
from medfl.imaging.bounded import BoundedReader
from medfl.imaging.deidentify import pseudonym
from medfl.imaging.dicom import SeriesInfo
from medfl.imaging.dicom_folder import find_series
from medfl.imaging.nifti import write_nifti


def import_nifti(
    images: Path,
    out: Path,
    *,
    targets: Path | None = None,
    subject_pattern: str = "",
    site: str = "",
    copy: bool = False,
    key: bytes | None = None,
    reader: ImageReader | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a folder of NIfTI images, with masks of the same names where `targets` is given.

    Parameters
    ----------
    images, targets : Path
        Folders; see `medfl.data.candidates.find_nifti` for how names are paired.
    out : Path
        Folder of ``manifest.csv``, ``quarantine.csv`` and ``pseudonym.key``.
    subject_pattern : str
        Regular expression with the groups ``subject`` and, if wanted, ``visit``.
    site : str
        Site of all studies.
    copy : bool
        Write every image again below `out` under its pseudonym, without the source's header; otherwise the manifest
        points at the files where they are.
    key : bytes, optional
        Pseudonym key; without it ``out/pseudonym.key`` is used, and created if need be.
    reader : ImageReader, optional
        Instead of a `BoundedReader`.
    progress : callable, optional
        Called with (done, total) after every study.

    Returns
    -------
    ImportReport

    Raises
    ------
    ConfigError
        If `subject_pattern` is not usable, or `out` lies inside `images`.
    DataError
        If a folder is missing, or not a single study could be imported.
    """
    _check_apart(images, out)
    found = find_nifti(images, targets, subject_pattern=subject_pattern, site=site)
    return import_found(found, out, copy=copy, key=key, reader=reader, progress=progress)


def import_folder(
    images: Path,
    out: Path,
    *,
    index: Path | None = None,
    columns: IndexColumns | None = None,
    targets: Path | None = None,
    subject_pattern: str = "",
    site: str = "",
    copy: bool = False,
    key: bytes | None = None,
    reader: ImageReader | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import two-dimensional pictures: one subfolder per class, or whatever an index lists.

    Parameters
    ----------
    images : Path
        Folder of pictures.
    out, subject_pattern, site, copy, key, reader, progress
        As in `import_nifti`; with an index the pattern belongs into `columns`.
    index : Path, optional
        CSV file that lists the pictures.
    columns : IndexColumns, optional
        Its columns; needed with `index`.
    targets : Path, optional
        Folder of masks that the index names.

    Returns
    -------
    ImportReport

    Raises
    ------
    ConfigError
        If the settings do not fit together.
    DataError
        If a folder or the index cannot be used, or not a single study could be imported.
    """
    _check_apart(images, out)
    if (index is None) != (columns is None):
        raise ConfigError("An index and its columns must be given together.")
    if index is None or columns is None:
        if targets is not None:
            raise ConfigError("A folder of masks needs an index that names each picture's mask.")
        found = find_classes(images, subject_pattern=subject_pattern, site=site)
    else:
        wanted = replace(columns, subject_pattern=columns.subject_pattern or subject_pattern)
        found = find_indexed(index, images, targets, wanted, site=site)
    return import_found(found, out, copy=copy, key=key, reader=reader, progress=progress)


def import_dicom(
    folder: Path,
    out: Path,
    *,
    site: str = "",
    key: bytes | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Convert every series below `folder` to ``out/volumes/PSEUDONYM.nii.gz`` and list it in a manifest.

    Each image of a series becomes one row; the manifest's targets are empty until masks or labels are added.

    Parameters
    ----------
    folder : Path
        Folder of DICOM files in any arrangement, with or without a DICOMDIR.
    out : Path
        Folder of ``manifest.csv``, ``quarantine.csv``, ``pseudonym.key`` and ``volumes/``; not inside `folder`.
    site : str
        Site of all studies.
    key : bytes, optional
        Pseudonym key; without it ``out/pseudonym.key`` is used, and created if need be.
    progress : callable, optional
        Called with (done, total) after every series.

    Returns
    -------
    ImportReport

    Raises
    ------
    ConfigError
        If `out` lies inside `folder`.
    DataError
        If the folder is missing, or not a single series could be imported.
    """
    if not folder.is_dir():
        raise DataError("The folder to import must exist and be a folder.")
    _check_apart(folder, out)
    (out / "volumes").mkdir(parents=True, exist_ok=True)
    key = pseudonym_key(out / "pseudonym.key") if key is None else key
    rows: list[NamedRow] = []
    with BoundedReader() as reader:
        found = find_series(folder, header_of=reader.header)
        quarantined = [Quarantined(shown_name(folder, q.path), q.reason, q.message) for q in found.quarantined]
        for done, series in enumerate(found.series, start=1):
            names = [shown_name(folder, file.path) for file in series.files]
            try:
                rows.append(NamedRow(_convert(series, out, site, key, reader), names[0]))
            except ImageReadError as error:
                quarantined += [Quarantined(name, error.reason, str(error)) for name in names]
            if progress is not None:
                progress(done, len(found.series))
    return finish(rows, quarantined, (), out)


def _check_apart(source: Path, out: Path) -> None:
    """Refuse an output folder inside the imported one, where the next import would find its own files.

    Raises
    ------
    ConfigError
        If `out` is `source` or below it.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError("The output folder must not lie inside the folder that is imported. Choose another.")


def _convert(series: SeriesInfo, out: Path, site: str, key: bytes, reader: BoundedReader) -> StudyRow:
    """Write one series as NIfTI and return its row."""
    identity = series.identity
    volume = reader.read_series(series)
    study = pseudonym(key, "study", f"{identity.study_uid}/{identity.series_uid}/{series.part}")
    image = f"volumes/{study}.nii.gz"
    row = StudyRow(
        subject=pseudonym(key, "subject", identity.patient_id),
        study=study,
        site=site,
        image=image,
        visit_date=date_of(identity.study_date),
        sex=identity.sex,
        age="" if identity.age_years is None else f"{identity.age_years:g}",
        scanner=" ".join(identity.scanner.split()),
    )
    row = checked_row(row)
    write_nifti(volume, out / image)
    return row
