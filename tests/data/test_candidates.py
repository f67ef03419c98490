import os
from pathlib import Path

import pytest

from medfl.data.candidates import Candidate, Found, date_of, find_classes, find_nifti
from medfl.errors import ConfigError, DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def reasons(found: Found) -> dict[str, str]:
    return {entry.file: entry.reason for entry in found.quarantined}


def test_images_and_masks_are_paired_by_relative_name_whatever_the_suffix(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.nii.gz", "deep/b.nii", "only.nii.gz")
    targets = touch(tmp_path / "labels", "a.nii", "deep/b.nii.gz", "lost.nii.gz")
    found = find_nifti(images, targets, site="A")
    assert [(c.subject, c.image.name, c.mask.name) for c in found.candidates] == [
        ("a", "a.nii.gz", "a.nii"),
        ("deep/b", "b.nii", "b.nii.gz"),
    ]
    assert {c.site for c in found.candidates} == {"A"}
    assert reasons(found) == {"images/only.nii.gz": "no_target", "labels/lost.nii.gz": "no_image"}


def test_a_pattern_finds_subject_and_visit_date(tmp_path: Path) -> None:
    images = touch(tmp_path, "sub-01_ses-20200131.nii.gz", "sub-01_ses-20201399.nii.gz", "other.nii.gz")
    found = find_nifti(images, None, subject_pattern=r"sub-(?P<subject>\w+?)_ses-(?P<visit>\d+)")
    assert [(c.subject, c.visit_date) for c in found.candidates] == [("01", "2020-01-31"), ("01", "")]
    assert len({c.study for c in found.candidates}) == 2
    assert list(reasons(found).values()) == ["no_subject"]
    assert found.notes == ()


def test_without_a_pattern_the_assumption_is_said(tmp_path: Path) -> None:
    assert "subject of its own" in find_nifti(touch(tmp_path, "a.nii"), None).notes[0]


def test_every_other_file_is_named_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a.nii.gz", "readme.txt", "pair.hdr", "pair.img", "._b.nii.gz", ".git/c.nii")
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "broken.nii").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find_nifti(tmp_path, None)
    assert [c.image.name for c in found.candidates] == ["a.nii"]
    folder = tmp_path.name
    assert reasons(found) == {
        f"{folder}/a.nii.gz": "same_name",
        f"{folder}/readme.txt": "other_type",
        f"{folder}/pair.hdr": "other_type",
        f"{folder}/pair.img": "other_type",
        f"{folder}/pipe.nii": "not_a_file",
        f"{folder}/broken.nii": "not_a_file",
    }


def test_classes_are_the_first_folder_or_the_one_below_the_split(tmp_path: Path) -> None:
    plain = find_classes(touch(tmp_path / "plain", "ill/a.png", "well/deep/b.JPG", "lost.png", "train/c.png"))
    assert [(c.label, c.split) for c in plain.candidates] == [("ill", ""), ("train", ""), ("well", "")]
    assert reasons(plain) == {"plain/lost.png": "no_class"}
    split = find_classes(touch(tmp_path / "split", "train/ill/a.png", "test/well/b.png", "test/c.png"))
    assert [(c.label, c.split) for c in split.candidates] == [("well", "test"), ("ill", "train")]
    assert reasons(split) == {"split/test/c.png": "no_class"}


@pytest.mark.parametrize("pattern", ["(", "no group", "(two)(groups)"])
def test_a_pattern_without_one_subject_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match="subject_pattern"):
        find_nifti(tmp_path, None, subject_pattern=pattern)


def test_a_missing_folder_is_a_data_error_without_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_nifti(tmp_path / "Erika", None)
    assert "Erika" not in str(caught.value)


def test_dates_are_understood_in_both_ways_of_writing() -> None:
    assert date_of("20240229") == date_of("2024-02-29") == "2024-02-29"
    assert date_of("20230229") == date_of("baseline") == ""


def test_a_candidate_never_shows_its_identifiers() -> None:
    candidate = Candidate("Erika", "Erika", Path("Erika"), "Erika", Path("Erika"), "Erika")
    assert "Erika" not in repr(candidate)
