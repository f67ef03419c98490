from dataclasses import replace
from pathlib import Path

import pytest

from medfl.data.manifest import Manifest, StudyRow, read_manifest, write_manifest
from medfl.errors import ManifestError
from medfl.results import atomic

HEADER = "subject,study,site,image,target,split,visit_date,sex,age,scanner"
SECRET = "Mustermann^Erika"


def rows() -> tuple[StudyRow, ...]:
    return (
        StudyRow("p1", "s1", "A", "images/1.nii.gz", "labels/1.nii.gz", "train", "2020-02-29", "F", "61", 'MR "3T", x'),
        StudyRow("p1", "s2", "A", "images/2.nii.gz", "", "train"),
        StudyRow("p2", "s3", "B", "/abs/3.png", "pneumonia", "test"),
    )


def write(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest(rows(), tmp_path)
    write_manifest(manifest, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == manifest


def test_only_required_columns_are_enough_in_any_order_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\ufeffsplit,subject,study,site,image,target\ntrain,p,s,A,i.png,normal\n", encoding="utf-8")
    assert read_manifest(path).rows == (StudyRow("p", "s", "A", "i.png", "normal", "train"),)


def test_paths_start_from_the_manifests_folder(tmp_path: Path) -> None:
    manifest = Manifest(rows(), tmp_path)
    assert manifest.image_path(manifest.rows[0]) == tmp_path / "images/1.nii.gz"
    assert manifest.target_path(manifest.rows[0]) == tmp_path / "labels/1.nii.gz"
    assert manifest.image_path(manifest.rows[2]) == Path("/abs/3.png")
    for row in manifest.rows[1:]:
        with pytest.raises(ManifestError, match="mask path"):
            manifest.target_path(row)


def test_writing_to_another_folder_keeps_the_files_reachable(tmp_path: Path) -> None:
    manifest = Manifest(rows(), tmp_path)
    write_manifest(manifest, tmp_path / "elsewhere" / "manifest.csv")
    moved = read_manifest(tmp_path / "elsewhere" / "manifest.csv")
    assert moved.image_path(moved.rows[0]).resolve() == (tmp_path / "images/1.nii.gz").resolve()
    assert moved.target_path(moved.rows[0]).resolve() == (tmp_path / "labels/1.nii.gz").resolve()
    assert moved.rows[2] == manifest.rows[2]


def test_digest_ignores_row_order_and_sees_every_value(tmp_path: Path) -> None:
    manifest = Manifest(rows(), tmp_path)
    assert len(manifest.digest()) == 64
    assert Manifest(rows()[::-1], tmp_path / "x").digest() == manifest.digest()
    changed = {manifest.digest()}
    for name in ("subject", "study", "site", "image", "target", "split", "visit_date", "sex", "age", "scanner"):
        first = replace(rows()[0], **{name: "other"})
        changed.add(Manifest((first, *rows()[1:]), tmp_path).digest())
    assert len(changed) == 11


def test_digest_does_not_confuse_neighboring_values(tmp_path: Path) -> None:
    one = Manifest((StudyRow("ab", "c", image="i"),), tmp_path)
    other = Manifest((StudyRow("a", "bc", image="i"),), tmp_path)
    assert one.digest() != other.digest()


def test_where_filters_by_everything_asked_for(tmp_path: Path) -> None:
    manifest = Manifest(rows(), tmp_path)
    assert manifest.where().rows == manifest.rows
    assert manifest.where(site="A", split="train").rows == rows()[:2]
    assert manifest.where(site="A", split="test").rows == ()
    assert manifest.where(subject="p2").rows == rows()[2:]
    assert manifest.subjects() == ("p1", "p2")
    assert manifest.sites() == ("A", "B")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "Line 1"),
        ([f"{SECRET},19500101,x"], "missing"),
        (["subject,study,site,image,target"], "missing: \\['split'\\]"),
        ([f"subject,study,site,image,target,split,{SECRET}"], "column 7: unknown"),
        (["subject,study,site,image,target,split,split"], "split must appear once"),
        ([HEADER, f"{SECRET},s"], "Line 2: 10 values"),
        ([HEADER, f"{SECRET},s1,A,i,t,train,,,,", "", f"{SECRET},s1,A,j,t,train,,,,"], "Line 4, column study.*line 2"),
        ([HEADER, f",{SECRET},A,i,t,train,,,,"], "Line 2, column subject: must not be empty"),
        ([HEADER, f"{SECRET},,A,i,t,train,,,,"], "Line 2, column study"),
        ([HEADER, f"{SECRET},s,A,,t,train,,,,"], "Line 2, column image"),
        ([HEADER, f"p,s,A,i,t,{SECRET},,,,"], "Line 2, column split"),
        ([HEADER, f"{SECRET},1,A,i,t,train,,,,", f"{SECRET},2,A,j,t,test,,,,"], "Line 3, column split.*line 2"),
        ([HEADER, f"p,s,A,i,t,train,{SECRET},,,"], "Line 2, column visit_date"),
        ([HEADER, "p,s,A,i,t,train,2021-02-29,,,"], "Line 2, column visit_date"),
        ([HEADER, "p,s,A,i,t,train,20210228,,,"], "Line 2, column visit_date"),
        ([HEADER, f"p,s,A,i,t,train,,{SECRET},,"], "Line 2, column sex"),
        ([HEADER, f"p,s,A,i,t,train,,,{SECRET},"], "Line 2, column age"),
        ([HEADER, "p,s,A,i,t,train,,,nan,"], "Line 2, column age"),
        ([HEADER, f"{SECRET} ,s,A,i,t,train,,,,"], "Line 2, column subject: .*blanks"),
        ([HEADER, f"{SECRET}\x00,s,A,i,t,train,,,,"], "Line 2, column subject: control"),
        ([HEADER, f'"{SECRET}'], "CSV table"),
        ([HEADER, f"p,{'x' * 200_000},A,i,t,train,,,,"], "CSV table"),
    ],
)
def test_a_broken_manifest_names_the_place_and_never_the_value(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(write(tmp_path, *lines))
    assert "Mustermann" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_no_text_or_not_there_is_a_manifest_error(tmp_path: Path) -> None:
    path = tmp_path / f"{SECRET}.csv"
    with pytest.raises(ManifestError, match="does not exist") as caught:
        read_manifest(path)
    assert "Mustermann" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(path)
    with pytest.raises(ManifestError, match="readable file"):
        read_manifest(tmp_path)


def test_a_bad_row_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(Manifest(rows(), tmp_path), path)
    before = path.read_bytes()
    with pytest.raises(ManifestError, match="Line 3, column study"):
        write_manifest(Manifest((rows()[0], rows()[0]), tmp_path), path)
    assert path.read_bytes() == before


def test_a_crash_while_writing_leaves_the_old_manifest_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(Manifest(rows(), tmp_path), path)
    before = path.read_bytes()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, step, crash)
            with pytest.raises(KeyboardInterrupt):
                write_manifest(Manifest(rows()[:1], tmp_path), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
