"""DICOM series to NIfTI volumes under pseudonyms."""

from pathlib import Path

from medfl.data.candidates import date_of, shown_name
from medfl.data.importing import ImportReport, NamedRow, Progress, check_apart, checked_row, finish, pseudonym_key
from medfl.data.manifest import StudyRow
from medfl.data.quarantine import Quarantined
from medfl.errors import DataError, ImageReadError
from medfl.imaging.bounded import BoundedReader
from medfl.imaging.deidentify import pseudonym
from medfl.imaging.dicom import SeriesInfo
from medfl.imaging.dicom_folder import find_series
from medfl.imaging.nifti import write_nifti


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
    check_apart(folder, out)
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
