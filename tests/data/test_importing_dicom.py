import csv
from collections import Counter
from pathlib import Path

import pytest

from medfl.data import importing
from medfl.data.importing import import_dicom
from medfl.data.intake import ImportReport
from medfl.data.manifest import read_manifest
from medfl.errors import ConfigError, DataError
from medfl.imaging.nifti import read_nifti


def files_set_aside(report: ImportReport) -> list[str]:
    with report.quarantine_path.open(encoding="utf-8", newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


def test_every_hostile_file_ends_in_a_row_with_its_reason(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "hostile" / "dicom"
    seen: list[tuple[int, int]] = []
    report = import_dicom(folder, tmp_path, progress=lambda done, total: seen.append((done, total)))
    aside = files_set_aside(report)
    assert len(aside) == len(set(aside))
    assert len(report.manifest.rows) + len(aside) == len(list(folder.iterdir()))
    assert "dicom/phi_everywhere.dcm" in aside
    assert all(entry.reason and entry.sentence for entry in report.quarantined)
    assert seen[-1][0] == seen[-1][1]


def test_series_become_volumes_named_by_pseudonyms(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom-pydicom" / "test_files" / "dicomdirtests"
    report = import_dicom(folder, tmp_path, site="A")
    assert read_manifest(report.manifest_path) == report.manifest
    assert len(report.manifest.rows) >= 2
    assert {row.site for row in report.manifest.rows} == {"A"}
    for row in report.manifest.rows:
        assert row.image == f"volumes/{row.study}.nii.gz"
        assert read_nifti(report.manifest.image_path(row)).array.size > 0
    written = {path.name for path in (tmp_path / "volumes").iterdir()}
    assert written == {f"{row.study}.nii.gz" for row in report.manifest.rows}
    assert import_dicom(folder, tmp_path, site="A").manifest == report.manifest


def test_no_identifier_of_the_source_reaches_manifest_or_volumes(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom-pydicom" / "test_files" / "dicomdirtests"
    report = import_dicom(folder, tmp_path)
    text = report.manifest_path.read_text(encoding="utf-8")
    for planted in ("98892", "77654033", "Doe", "1.3.6.1.4.1.5962"):  # patient ids, name, root of the study ids
        assert planted not in text
        assert not any(planted.encode() in path.read_bytes() for path in (tmp_path / "volumes").iterdir())


def test_a_kill_while_converting_leaves_no_manifest(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "write_nifti", kill)
    with pytest.raises(KeyboardInterrupt):
        import_dicom(real_data / "dicom-pydicom" / "test_files" / "dicomdirtests", tmp_path)
    assert not (tmp_path / "manifest.csv").exists()


def test_a_folder_without_dicom_is_an_error_with_a_table(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Erika.txt").write_text("no image")
    with pytest.raises(DataError, match="1 files were set aside") as caught:
        import_dicom(tmp_path / "in", tmp_path / "out")
    assert "Erika" not in str(caught.value)
    assert "Erika.txt" in (tmp_path / "out" / "quarantine.csv").read_text()
    with pytest.raises(DataError, match="must exist"):
        import_dicom(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ConfigError, match="must not lie inside"):
        import_dicom(tmp_path / "in", tmp_path / "in" / "out")


def test_reasons_are_counted_by_code(real_data: Path, tmp_path: Path) -> None:
    report = import_dicom(real_data / "hostile" / "dicom", tmp_path)
    assert report.reasons() == Counter(entry.reason for entry in report.quarantined)
    assert report.reasons()["not_dicom"] == 2
