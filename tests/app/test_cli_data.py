import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from app.cli.data import data_app
from app.cli.exit_codes import exit_code
from medfl.data import catalog
from medfl.data.phantoms import make_phantoms
from medfl.errors import MedFLError
from medfl.imaging.nifti import write_nifti
from medfl.imaging.volume import Volume

SECRET = "Mustermann_Erika_19600229"


def medfl_data(*arguments: object) -> Result:
    return CliRunner().invoke(data_app, [str(argument) for argument in arguments])


def code_of(result: Result) -> int:
    """Return the exit code that the `medfl` command gives."""
    return exit_code(result.exception) if isinstance(result.exception, MedFLError) else result.exit_code


def volume(path: Path, fill: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((1, 4, 5, 6), dtype=np.int16)
    array[0, 1:] = fill
    write_nifti(Volume(array, np.eye(4)), path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs named after a patient, a mask too many and a file that is no image."""
    for number in range(3):
        volume(tmp_path / "images" / f"{SECRET}_{number}.nii.gz", number + 5)
        volume(tmp_path / "labels" / f"{SECRET}_{number}.nii.gz", 1)
    volume(tmp_path / "labels" / "lost.nii.gz", 1)
    (tmp_path / "images" / f"{SECRET}.nii.gz").write_bytes(b"no image")
    (tmp_path / "labels" / f"{SECRET}.nii.gz").write_bytes(b"no image")
    return tmp_path


def import_pairs(pairs: Path, *more: object) -> Result:
    return medfl_data("import", "nifti", pairs / "images", "--targets", pairs / "labels", "--out", pairs / "out", *more)


def test_import_and_check_print_one_json_object_each(pairs: Path) -> None:
    imported = import_pairs(pairs, "--subject-pattern", r"_(\d)$", "--site", "A", "--json")
    assert imported.exit_code == 0
    facts = json.loads(imported.stdout)
    assert (facts["studies"], facts["subjects"], facts["sites"]) == (3, 3, ["A"])
    assert facts["set_aside"] == {"no_image": 1, "no_subject": 1}
    checked = medfl_data("check", pairs / "out" / "manifest.csv", "--json")
    assert checked.exit_code == 0
    report = json.loads(checked.stdout)
    assert report["ok"] is True
    assert report["mask_values"] == [[0.0, 3], [1.0, 3]]
    assert {finding["code"] for finding in report["findings"]} == {"looks_personal"}


def test_import_and_check_print_a_few_lines_for_people(pairs: Path) -> None:
    imported = import_pairs(pairs)
    assert imported.exit_code == 0
    assert "3 studies of 3 subjects" in imported.stdout
    assert "3 files set aside" in imported.stdout
    checked = medfl_data("check", pairs / "out" / "manifest.csv")
    assert checked.exit_code == 0
    assert "3 images of 4x5x6 to 4x5x6" in checked.stdout
    assert "warning: looks_personal, line 2, 3, 4" in checked.stdout
    assert checked.stdout.splitlines()[-1] == "ok"


def test_check_exits_one_when_something_is_wrong_and_strict_minds_warnings(pairs: Path) -> None:
    import_pairs(pairs)
    manifest = pairs / "out" / "manifest.csv"
    assert medfl_data("check", manifest, "--strict").exit_code == 1
    assert medfl_data("check", manifest, "--expect", "0,2").exit_code == 1
    (pairs / "images" / f"{SECRET}_0.nii.gz").unlink()
    broken = medfl_data("check", manifest)
    assert broken.exit_code == 1
    assert "unreadable_image, line 2" in broken.stdout
    assert broken.stdout.splitlines()[-1] == "not ok"


def test_a_patients_name_is_never_printed(pairs: Path) -> None:
    results = [
        import_pairs(pairs),
        import_pairs(pairs, "--json"),
        medfl_data("check", pairs / "out" / "manifest.csv"),
        medfl_data("check", pairs / "out" / "manifest.csv", "--json"),
        medfl_data("import", "dicom", pairs / "images", "--out", pairs / "dicom"),
        medfl_data("import", "folder", pairs / "images", "--out", pairs / "folder"),
        medfl_data("check", pairs / "images" / f"{SECRET}.nii.gz"),
        medfl_data("check", pairs / f"{SECRET}.csv"),
        medfl_data("import", "nifti", pairs / f"{SECRET}", "--out", pairs / "other"),
    ]
    for result in results:
        assert "Erika" not in result.stdout + result.stderr
        assert "Erika" not in str(result.exception)
        assert "Erika" not in repr(result.exception)


def test_pictures_by_class_and_by_index(tmp_path: Path) -> None:
    for name in ("ill/a", "ill/b", "well/c"):
        path = tmp_path / "pics" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), ord(name[-1]), dtype=np.uint8)).save(path)
    by_class = medfl_data("import", "folder", tmp_path / "pics", "--out", tmp_path / "one", "--json")
    assert json.loads(by_class.stdout)["studies"] == 3
    assert "classes: ill 2, well 1" in medfl_data("check", tmp_path / "one" / "manifest.csv").stdout
    (tmp_path / "index.csv").write_text("f,who,copy\nill/a.png,7,\nill/b.png,7,\nwell/c.png,8,x\n")
    by_index = medfl_data(
        *("import", "folder", tmp_path / "pics", "--out", tmp_path / "two", "--index", tmp_path / "index.csv"),
        *("--column", "image=f", "--column", "subject=who", "--drop-if-set", "copy", "--json"),
    )
    facts = json.loads(by_index.stdout)
    assert (facts["studies"], facts["subjects"]) == (2, 1)
    assert facts["notes"] == ["1 rows with a value in column copy were left out."]


def test_one_key_names_a_subject_alike_in_two_imports(pairs: Path) -> None:
    import_pairs(pairs)
    again = medfl_data(
        *("import", "nifti", pairs / "images", "--out", pairs / "again"),
        *("--key", pairs / "out" / "pseudonym.key", "--copy", "--json"),
    )
    assert json.loads(again.stdout)["studies"] == 3

    def subjects(out: str) -> list[str]:
        with (pairs / out / "manifest.csv").open(newline="") as file:
            return sorted(row["subject"] for row in csv.DictReader(file))

    assert subjects("again") == subjects("out")
    assert not (pairs / "again" / "pseudonym.key").exists()


def test_errors_map_to_the_exit_codes_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert code_of(medfl_data("import", "nifti", tmp_path / "in", "--out", tmp_path / "out")) == 4
    assert code_of(medfl_data("check", tmp_path / "none.csv")) == 4
    wrong_pattern = medfl_data("import", "nifti", tmp_path / "in", "--out", tmp_path / "o", "--subject-pattern", "(")
    assert code_of(wrong_pattern) == 3
    assert code_of(medfl_data("fetch", "nothing", "--out", tmp_path)) == 3
    unreachable = medfl_data("fetch", "MedNIST", "--out", tmp_path, "--base-url", "http://127.0.0.1:9")
    assert code_of(unreachable) == 5
    assert code_of(medfl_data("import", "nifti")) == 2


def test_list_names_public_sets() -> None:
    assert "Task04_Hippocampus" in medfl_data("list").stdout
    listed = json.loads(medfl_data("list", "--json").stdout)["sets"]
    assert {"name", "url", "md5"} == set(listed[0])


def test_fetch_prints_where_the_set_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "small.tar", "w") as archive:
        entry = tarfile.TarInfo("Small/a.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"1"))
    md5 = hashlib.md5((tmp_path / "small.tar").read_bytes(), usedforsecurity=False).hexdigest()
    public = catalog.PublicSet("Small", (tmp_path / "small.tar").as_uri(), md5)
    monkeypatch.setattr(catalog, "list_sets", lambda: (public,))
    result = medfl_data("fetch", "Small", "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout) == {"folder": str(tmp_path / "out" / "Small")}
    assert (tmp_path / "out" / "Small" / "a.txt").is_file()


def test_every_hostile_nifti_ends_in_a_row(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "hostile" / "nifti"
    result = medfl_data("import", "nifti", folder, "--out", tmp_path, "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["studies"] + sum(facts["set_aside"].values()) == len(list(folder.iterdir()))
    with (tmp_path / "quarantine.csv").open(newline="") as file:
        assert all(row["reason"] and row["sentence"] for row in csv.DictReader(file))


@pytest.mark.parametrize("kind", ["nifti", "folder", "dicom"])
def test_every_import_meets_the_whole_hostile_folder(real_data: Path, tmp_path: Path, kind: str) -> None:
    folder = real_data / "hostile"
    result = medfl_data("import", kind, folder, "--out", tmp_path, "--json")
    with (tmp_path / "quarantine.csv").open(newline="") as file:
        aside = [row["file"] for row in csv.DictReader(file)]
    studies = json.loads(result.stdout)["studies"] if result.exit_code == 0 else 0
    assert code_of(result) == (4 if kind == "folder" else 0)
    assert len(aside) == len(set(aside))
    assert studies + len(aside) == sum(path.is_file() for path in folder.rglob("*"))


def test_phantoms_pass_the_check(tmp_path: Path) -> None:
    make_phantoms(tmp_path, dimensions=2, subjects=15, visits=2, size=24)
    result = medfl_data("check", tmp_path / "manifest.csv", "--expect", "0,1,2", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["findings"] == []
