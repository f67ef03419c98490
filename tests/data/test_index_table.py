from pathlib import Path

import pytest

from medfl.data.candidates import Found
from medfl.data.index_table import IndexColumns, find_indexed, parse_columns
from medfl.errors import ConfigError, DataError

COLUMNS = IndexColumns(
    image="file",
    target="mask",
    subject="who",
    site="place",
    split="part",
    sex="gender",
    age="years",
    visit_date="day",
    drop_if_set="copy_of",
    subject_pattern=r"p(\d+)",
)
HEADER = "file,mask,who,place,part,gender,years,day,copy_of,unused"


def find(folder: Path, *lines: str, columns: IndexColumns = COLUMNS, masks: bool = True, site: str = "") -> Found:
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
        for number in range(4):
            (folder / name / f"p{number}.png").write_bytes(b"")
    (folder / "images" / "other.png").write_bytes(b"")
    (folder / "index.csv").write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    targets = folder / "masks" if masks else None
    return find_indexed(folder / "index.csv", folder / "images", targets, columns, site=site)


def test_columns_become_the_fields_of_a_candidate(tmp_path: Path) -> None:
    (candidate,) = find(tmp_path, "p1.png,p2.png,who1,A,Training,female,061Y,20200131,,x").candidates
    assert candidate.image == tmp_path / "images/p1.png"
    assert candidate.mask == tmp_path / "masks/p2.png"
    assert (candidate.subject, candidate.site, candidate.split) == ("who1", "A", "train")
    assert (candidate.sex, candidate.age, candidate.visit_date) == ("F", "61", "2020-01-31")
    assert candidate.study == "p1.png"


def test_without_a_folder_of_masks_the_target_is_a_class(tmp_path: Path) -> None:
    (candidate,) = find(tmp_path, "p1.png,ill,w,A,,,,,,", masks=False).candidates
    assert (candidate.mask, candidate.label) == (None, "ill")


def test_the_pattern_finds_subjects_where_the_column_is_empty_and_says_so(tmp_path: Path) -> None:
    found = find(tmp_path, "p1.png,p1.png,,,,,,,,", "p2.png,p2.png,7,,,,,,,", "other.png,p3.png,,,,,,,,")
    assert [c.subject for c in found.candidates] == ["1", "7"]
    assert [(q.file, q.reason) for q in found.quarantined] == [("images/other.png", "no_subject")]
    assert found.notes == ("Assumption: 1 images are from 1 subjects found by the subject pattern in the file name.",)


def test_without_pattern_and_column_each_image_is_its_own_subject(tmp_path: Path) -> None:
    found = find(tmp_path, "p1.png,a,,,,,,,,", "p2.png,b,,,,,,,,", columns=IndexColumns(image="file"), masks=False)
    assert len({c.subject for c in found.candidates}) == 2
    assert found.notes == ("Assumption: 2 images are each from a subject of its own.",)


def test_marked_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    found = find(tmp_path, "p1.png,p1.png,w,,,,,,p2.png,", "p2.png,p2.png,w,,,,,,,")
    assert [c.image.name for c in found.candidates] == ["p2.png"]
    assert "1 rows with a value in column copy_of were left out." in found.notes


def test_attributes_that_are_not_understood_are_left_empty_and_counted(tmp_path: Path) -> None:
    found = find(tmp_path, "p1.png,p1.png,w,,,unknown,old,yesterday,,", "p2.png,p2.png,w,,,m,7,2020-01-01,,")
    assert [(c.sex, c.age, c.visit_date) for c in found.candidates] == [("", "", ""), ("M", "7", "2020-01-01")]
    assert "3 values of sex, age or visit date were not understood and are left empty." in found.notes


def test_the_sites_own_name_wins_over_the_default(tmp_path: Path) -> None:
    found = find(tmp_path, "p1.png,p1.png,w,A,,,,,,", "p2.png,p2.png,v,,,,,,,", site="Z")
    assert [c.site for c in found.candidates] == ["A", "Z"]


def test_a_study_column_keeps_the_studies_of_two_subjects_apart(tmp_path: Path) -> None:
    columns = IndexColumns(image="file", subject="who", study="day")
    found = find(tmp_path, "p1.png,a,w,,,,,1,,", "p2.png,a,v,,,,,1,,", columns=columns, masks=False)
    assert len({c.study for c in found.candidates}) == 2


@pytest.mark.parametrize(
    ("line", "file", "reason"),
    [
        (",p1.png,w,,,,,,,", "index.csv, line 2", "outside_folder"),
        ("../index.csv,p1.png,w,,,,,,,", "images/../index.csv", "outside_folder"),
        ("/etc/passwd,p1.png,w,,,,,,,", "images//etc/passwd", "outside_folder"),
        ("p1.png,../images/p1.png,w,,,,,,,", "images/p1.png", "outside_folder"),
        ("gone.png,p1.png,w,,,,,,,", "images/gone.png", "not_a_file"),
        ("p1.png,,w,,,,,,,", "images/p1.png", "no_target"),
    ],
)
def test_a_row_that_names_no_file_is_set_aside_alone(tmp_path: Path, line: str, file: str, reason: str) -> None:
    found = find(tmp_path, line, "p2.png,p2.png,w,,,,,,,")
    assert [(q.file, q.reason) for q in found.quarantined] == [(file, reason)]
    assert len(found.candidates) == 1


def test_a_missing_column_or_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nope'"):
        find(tmp_path, columns=IndexColumns(image="nope"))
    for content in (b"\xff\xfe\x00", b'file,mask\n"p1'):
        (tmp_path / "bad.csv").write_bytes(content)
        with pytest.raises(DataError, match="CSV"):
            find_indexed(tmp_path / "bad.csv", tmp_path, None, IndexColumns(image="file"))
    with pytest.raises(DataError, match="readable file") as caught:
        find_indexed(tmp_path / "Erika.csv", tmp_path, None, IndexColumns(image="file"))
    assert "Erika" not in str(caught.value)


def test_a_short_row_has_empty_values_and_a_long_one_loses_the_rest(tmp_path: Path) -> None:
    found = find(tmp_path, "p1.png,ill", "p2.png,ill,w,A,,,,,,x,more,more", masks=False)
    assert [c.site for c in found.candidates] == ["", "A"]


def test_columns_are_named_as_pairs() -> None:
    assert parse_columns(["image=file", "subject=who"], drop_if_set="d") == IndexColumns(
        image="file", subject="who", drop_if_set="d"
    )
    for pairs in (["image"], ["image="], ["foo=bar"], ["image=a", "image=b"], ["subject=who"]):
        with pytest.raises(ConfigError, match="column"):
            parse_columns(pairs)
