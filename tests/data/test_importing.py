import csv
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfl.data import intake
from medfl.data.importing import import_folder, import_nifti
from medfl.data.index_table import IndexColumns
from medfl.data.intake import ImportReport
from medfl.data.manifest import read_manifest
from medfl.errors import ConfigError, DataError, ImageReadError
from medfl.imaging.nifti import read_nifti, write_nifti
from medfl.imaging.volume import Volume

SECRET = "Mustermann_Erika_19600229"


def nifti(path: Path, fill: int = 1, shape: tuple[int, ...] = (4, 5, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((1, *shape), fill, dtype=np.int16)
    array[0, 0, 0, 0] = 0
    write_nifti(Volume(array, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def picture(path: Path, fill: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 9), fill, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three pairs and an image that no reader likes."""
    for number in range(3):
        nifti(tmp_path / "images" / f"p{number}.nii.gz", number + 5)
        nifti(tmp_path / "labels" / f"p{number}.nii.gz")
    nifti(tmp_path / "images" / "bad.nii.gz")
    nifti(tmp_path / "labels" / "bad.nii.gz")
    return tmp_path


def quarantine(report: ImportReport) -> dict[str, str]:
    with report.quarantine_path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def run(source: Path, reader: object, out: str = "out", **settings: object) -> ImportReport:
    return import_nifti(source / "images", source / out, targets=source / "labels", reader=reader, **settings)


def test_good_files_go_on_and_bad_ones_are_set_aside_with_reason(source: Path, reader) -> None:
    reader.broken = {"images/bad.nii.gz"}
    seen: list[tuple[int, int]] = []
    report = run(source, reader, site="A", progress=lambda done, total: seen.append((done, total)))
    assert read_manifest(report.manifest_path) == report.manifest
    assert [Path(row.image).name for row in report.manifest.rows] == ["p0.nii.gz", "p1.nii.gz", "p2.nii.gz"]
    assert all(report.manifest.image_path(row).is_file() for row in report.manifest.rows)
    assert all(report.manifest.target_path(row).is_file() for row in report.manifest.rows)
    assert {row.site for row in report.manifest.rows} == {"A"}
    assert quarantine(report) == {"images/bad.nii.gz": "broken"}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_bad_mask_sets_both_files_aside(source: Path, reader) -> None:
    (source / "labels" / "bad.nii.gz").write_bytes(b"no image")
    (source / "labels" / "p1.nii.gz").write_bytes(b"")
    nifti(source / "labels" / "p2.nii.gz", shape=(4, 5, 7))
    reader.broken = {"images/p1.nii.gz", "labels/p1.nii.gz"}
    report = run(source, reader)
    assert len(report.manifest.rows) == 1
    assert quarantine(report) == {
        "labels/bad.nii.gz": "not_nifti",
        "images/bad.nii.gz": "bad_target",
        "images/p1.nii.gz": "broken",
        "labels/p1.nii.gz": "broken",
        "images/p2.nii.gz": "mask_mismatch",
    }


def test_identifiers_become_pseudonyms_that_depend_on_the_key_alone(source: Path, reader) -> None:
    first = run(source, reader, "one", key=b"k" * 32)
    again = run(source, reader, "two", key=b"k" * 32)
    other = run(source, reader, "three", key=b"x" * 32)
    assert [(r.subject, r.study) for r in first.manifest.rows] == [(r.subject, r.study) for r in again.manifest.rows]
    ids = {name for r in first.manifest.rows for name in (r.subject, r.study)}
    assert len(ids) == 8
    assert not ids & {name for r in other.manifest.rows for name in (r.subject, r.study)}
    assert not any("p0" == name or "p1" == name for name in ids)


def test_the_key_is_made_once_and_only_its_owner_may_read_it(source: Path, reader) -> None:
    first = run(source, reader)
    key_file = source / "out" / "pseudonym.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_bytes()
    assert run(source, reader).manifest == first.manifest
    assert key_file.read_bytes() == key


def test_a_pattern_joins_the_visits_of_a_subject(tmp_path: Path, reader) -> None:
    for name in ("a_20200101", "a_20210101", "b_20200101"):
        nifti(tmp_path / "images" / f"{name}.nii.gz")
    report = import_nifti(
        tmp_path / "images", tmp_path / "out", subject_pattern=r"^(?P<subject>\w)_(?P<visit>\d+)", reader=reader
    )
    assert len(report.manifest.subjects()) == 2
    assert [row.visit_date for row in report.manifest.rows] == ["2020-01-01", "2021-01-01", "2020-01-01"]


def test_copies_carry_pseudonyms_instead_of_names(tmp_path: Path, reader) -> None:
    nifti(tmp_path / "images" / f"{SECRET}.nii.gz", 7)
    nifti(tmp_path / "labels" / f"{SECRET}.nii.gz", 2)
    report = import_nifti(tmp_path / "images", tmp_path / "out", targets=tmp_path / "labels", copy=True, reader=reader)
    (row,) = report.manifest.rows
    assert row.image == f"images/{row.study}.nii.gz"
    copied = read_nifti(report.manifest.image_path(row))
    np.testing.assert_array_equal(copied.array, read_nifti(tmp_path / "images" / f"{SECRET}.nii.gz").array)
    assert copied.spacing_mm == (3.0, 2.0, 1.0)
    assert read_nifti(report.manifest.target_path(row)).array.max() == 2
    for path in (tmp_path / "out").rglob("*"):
        assert "Erika" not in path.name
        assert path.is_dir() or b"Erika" not in path.read_bytes()


def test_copied_pictures_are_png_without_loss(tmp_path: Path, reader) -> None:
    picture(tmp_path / "pics" / "ill" / "a.png", 9)
    Image.fromarray(np.full((4, 4, 3), 5, dtype=np.uint8)).save(tmp_path / "pics" / "ill" / "b.png")
    Image.fromarray(np.full((4, 4), 5, dtype=np.uint16)).save(tmp_path / "pics" / "ill" / "c.png")
    report = import_folder(tmp_path / "pics", tmp_path / "out", copy=True, reader=reader)
    assert [row.target for row in report.manifest.rows] == ["ill", "ill"]
    assert np.asarray(Image.open(report.manifest.image_path(report.manifest.rows[0]))).tolist() == [[9] * 9] * 8
    assert np.asarray(Image.open(report.manifest.image_path(report.manifest.rows[1]))).shape == (4, 4, 3)
    assert quarantine(report) == {"pics/ill/c.png": "cannot_copy"}


def test_a_subject_in_two_splits_is_set_aside_and_the_others_go_on(tmp_path: Path, reader) -> None:
    for name in ("train/x/a1.png", "test/x/a2.png", "train/x/b1.png"):
        picture(tmp_path / "pics" / name)
    report = import_folder(tmp_path / "pics", tmp_path / "out", subject_pattern=r"(\w)\d$", reader=reader)
    assert [row.split for row in report.manifest.rows] == ["train"]
    assert quarantine(report) == {"pics/train/x/a1.png": "two_splits", "pics/test/x/a2.png": "two_splits"}


def test_an_image_listed_twice_is_taken_once_and_bad_values_are_set_aside(tmp_path: Path, reader) -> None:
    for name in "abc":
        picture(tmp_path / "pics" / f"{name}.png")
    (tmp_path / "index.csv").write_text("f,s\na.png,train\na.png,train\nb.png,maybe\nc.png,\n")
    report = import_folder(
        tmp_path / "pics",
        tmp_path / "out",
        index=tmp_path / "index.csv",
        columns=IndexColumns(image="f", split="s"),
        reader=reader,
    )
    assert [row.split for row in report.manifest.rows] == ["train", ""]
    assert Counter(q.reason for q in report.quarantined) == {"same_study": 1, "bad_value": 1}


def test_names_that_no_manifest_can_hold_are_set_aside(tmp_path: Path, reader) -> None:
    nifti(tmp_path / "images" / "good.nii.gz")
    nifti(tmp_path / "images" / "two\nlines.nii.gz")
    nifti(Path(str(tmp_path / "images") + "/stray\udcff.nii.gz"))
    report = import_nifti(tmp_path / "images", tmp_path / "out", reader=reader)
    assert len(report.manifest.rows) == 1
    assert quarantine(report) == {"images/two\nlines.nii.gz": "bad_value", "images/stray\\udcff.nii.gz": "bad_value"}


def test_nothing_usable_is_an_error_with_a_quarantine_table_and_no_manifest(source: Path, reader) -> None:
    reader.broken = {f"images/{name}.nii.gz" for name in ("p0", "p1", "p2", "bad")}
    with pytest.raises(DataError, match=r"4 files were set aside \(broken\)") as caught:
        run(source, reader)
    assert "p0" not in str(caught.value)
    assert (source / "out" / "quarantine.csv").is_file()
    assert not (source / "out" / "manifest.csv").exists()
    (source / "none").mkdir()
    with pytest.raises(DataError, match="none was found"):
        import_nifti(source / "none", source / "out2", reader=reader)


@pytest.mark.parametrize("step", ["reading", "quarantine", "manifest"])
def test_a_kill_at_any_moment_leaves_the_old_manifest_whole(
    source: Path, reader, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    report = run(source, reader)
    before = report.manifest_path.read_bytes()
    nifti(source / "images" / "p9.nii.gz")
    nifti(source / "labels" / "p9.nii.gz")

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "reading":
            calls = iter(range(100))
            read = reader.read
            patch.setattr(reader, "read", lambda path: kill() if next(calls) == 3 else read(path))
        else:
            patch.setattr(intake, f"write_{step}", kill)
        with pytest.raises(KeyboardInterrupt):
            run(source, reader)
    assert report.manifest_path.read_bytes() == before
    assert {path.name for path in (source / "out").iterdir()} == {"manifest.csv", "quarantine.csv", "pseudonym.key"}
    assert len(run(source, reader).manifest.rows) == 5


def test_settings_that_do_not_fit_together_are_refused(source: Path, reader) -> None:
    with pytest.raises(ConfigError, match="must not lie inside"):
        import_nifti(source / "images", source / "images" / "out", reader=reader)
    with pytest.raises(ConfigError, match="together"):
        import_folder(source / "images", source / "out", index=source / "i.csv", reader=reader)
    with pytest.raises(ConfigError, match="index"):
        import_folder(source / "images", source / "out", targets=source / "labels", reader=reader)


def test_a_patients_name_is_in_no_message_and_no_summary(
    tmp_path: Path, reader, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "labels"):
        nifti(tmp_path / SECRET / folder / f"{SECRET}.nii.gz")
    nifti(tmp_path / SECRET / "images" / f"{SECRET}_2.nii.gz")
    report = run(tmp_path / SECRET, reader, "../out")
    (tmp_path / SECRET / "images" / f"{SECRET}.nii.gz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        run(tmp_path / SECRET, reader, "../out2")
    shown = [
        str(caught.value),
        repr(caught.value),
        *report.notes,
        str({**report.to_dict(), "manifest": "", "quarantine": ""}),
    ]
    assert not any("Erika" in text for text in (*shown, *capfd.readouterr()))


def test_hippocampus_gives_260_pairs_and_names_the_three_outliers(real_data: Path, tmp_path: Path, reader) -> None:
    folder = real_data / "msd-hippocampus"
    report = import_nifti(folder / "images", tmp_path, targets=folder / "labels", reader=reader)
    assert len(report.manifest.rows) == len(report.manifest.subjects()) == 260
    assert quarantine(report) == {
        "images/hippocampus_118.nii.gz": "no_target",
        "labels/hippocampus_010.nii.gz": "no_image",
        "labels/hippocampus_281.nii.gz": "no_image",
    }


class NoReader:
    """Accepts every file unread, where a test is about an index alone."""

    def read(self, path: Path) -> Volume:
        if not path.is_file():
            raise ImageReadError("gone", "The file must exist.")
        return Volume(np.zeros((1, 2, 2), dtype=np.uint8), np.eye(4))


def test_chest_x_rays_are_imported_by_person_with_their_official_split(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "kermany-cxr"
    columns = IndexColumns(
        image="file",
        target="label",
        subject="person",
        split="split",
        drop_if_set="duplicate_of",
        subject_pattern=r"((?:NORMAL2-)?IM-\d+)",
    )
    report = import_folder(folder, tmp_path, index=folder / "index.csv", columns=columns, reader=NoReader())
    assert Counter(row.target for row in report.manifest.rows) == {"PNEUMONIA": 4237, "NORMAL": 1571}
    assert len(report.manifest.where(split="test").rows) == 618  # 624 less 6 exact duplicates
    assert report.quarantined == ()
    assert (
        "Assumption: 1571 images are from 1435 subjects found by the subject pattern in the file name." in report.notes
    )
    visits = Counter(row.subject for row in report.manifest.rows if row.target == "PNEUMONIA")
    assert sum(count > 1 for count in visits.values()) == 647


def test_lung_masks_and_brain_slices_are_imported_by_their_index(real_data: Path, tmp_path: Path) -> None:
    lungs = import_folder(
        real_data / "kermany-cxr",
        tmp_path / "lungs",
        index=real_data / "kermany-lungs" / "index.csv",
        targets=real_data / "kermany-lungs",
        columns=IndexColumns(
            image="image", target="mask", subject_pattern=r"((?:NORMAL2-)?IM-\d+|person\d+_(?:bacteria|virus))"
        ),
        reader=NoReader(),
    )
    assert (len(lungs.manifest.rows), lungs.quarantined) == (5445, ())
    brain = import_folder(
        real_data / "lgg-mri-small-96" / "images",
        tmp_path / "brain",
        index=real_data / "lgg-mri-small-96" / "index.csv",
        targets=real_data / "lgg-mri-small-96" / "masks",
        columns=IndexColumns(image="file", target="file", subject="patient", site="site"),
        reader=NoReader(),
    )
    subjects = {site: len(brain.manifest.where(site=site).subjects()) for site in brain.manifest.sites()}
    assert subjects == {"DU": 45, "HT": 34, "CS": 16, "FG": 14, "EZ": 1}
    assert len(brain.manifest.rows) == 2631
