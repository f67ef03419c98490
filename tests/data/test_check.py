import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medfl.data.check import CheckReport, check_manifest, parse_values
from medfl.data.manifest import Manifest, StudyRow
from medfl.errors import ConfigError
from medfl.imaging.nifti import write_nifti
from medfl.imaging.volume import Volume

SHAPE = (4, 5, 6)


def image(seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)


def mask(*values: float) -> NDArray[np.generic]:
    array = np.zeros(SHAPE, dtype=np.int16 if all(float(v).is_integer() for v in values) else np.float32)
    array.flat[: len(values)] = values
    return array


def save(array: NDArray[np.generic], path: Path, spacing: float = 1.0) -> None:
    write_nifti(Volume(array[np.newaxis], np.diag([spacing, spacing, spacing, 1.0])), path)


@pytest.fixture
def clean(tmp_path: Path) -> Manifest:
    """Twelve subjects with a mask each, in two sites."""
    rows = []
    for number in range(12):
        save(image(number), tmp_path / f"i{number}.nii.gz")
        save(mask(1, 2), tmp_path / f"m{number}.nii.gz")
        site, split = ("A", "B")[number % 2], ("train", "val", "test")[number % 3]
        rows.append(StudyRow(f"p{number}", f"s{number}", site, f"i{number}.nii.gz", f"m{number}.nii.gz", split))
    return Manifest(tuple(rows), tmp_path)


def codes(report: CheckReport) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {finding.code: (finding.level, finding.lines) for finding in report.findings}


def with_row(manifest: Manifest, index: int, **changes: str) -> Manifest:
    rows = list(manifest.rows)
    rows[index] = replace(rows[index], **changes)
    return replace(manifest, rows=tuple(rows))


def test_a_clean_manifest_is_counted_and_passes(clean: Manifest, reader) -> None:
    seen: list[tuple[int, int]] = []
    report = check_manifest(clean, reader, progress=lambda done, total: seen.append((done, total)))
    assert report.is_ok
    assert report.findings == ()
    assert (report.studies, report.subjects) == (12, 12)
    assert [(s.site, s.subjects, s.train, s.val, s.test, s.unassigned) for s in report.sites] == [
        ("A", 6, 2, 2, 2, 0),
        ("B", 6, 2, 2, 2, 0),
    ]
    (grid,) = report.geometry
    assert (grid.studies, grid.channels, grid.shape_min, grid.shape_max) == (12, (1,), SHAPE, SHAPE)
    assert grid.spacing_max_mm == (1.0, 1.0, 1.0)
    assert report.mask_values == ((0.0, 12), (1.0, 12), (2.0, 12))
    assert seen[-1] == (12, 12)
    assert json.loads(report.to_json())["ok"] is True


def test_unreadable_files_are_named_by_line_with_their_reason(clean: Manifest, reader) -> None:
    reader.broken = {f"{clean.folder.name}/{name}.nii.gz" for name in ("i3", "m4")}
    report = check_manifest(clean, reader)
    assert not report.is_ok
    assert codes(report) == {"unreadable_image": ("error", (5,)), "unreadable_mask": ("error", (6,))}
    assert "(broken)" in report.findings[0].sentence
    assert report.geometry[0].studies == 11


def test_ranges_of_shape_and_spacing_are_reported(clean: Manifest, reader) -> None:
    big = np.ones((7, 5, 6), dtype=np.int16)
    for name in ("i0.nii.gz", "m0.nii.gz"):
        save(big, clean.folder / name, spacing=2.5)
    (grid,) = check_manifest(clean, reader).geometry
    assert (grid.shape_min, grid.shape_max) == (SHAPE, (7, 5, 6))
    assert (grid.spacing_min_mm, grid.spacing_max_mm) == ((1.0, 1.0, 1.0), (2.5, 2.5, 2.5))


def test_masks_that_do_not_fit_their_image_are_errors(clean: Manifest, reader) -> None:
    save(np.ones((4, 5, 7), dtype=np.int16), clean.folder / "m0.nii.gz")
    save(mask(1, 2), clean.folder / "m1.nii.gz", spacing=1.1)
    assert codes(check_manifest(clean, reader)) == {"mask_shape": ("error", (2,)), "mask_place": ("error", (3,))}


def test_fractional_negative_and_too_many_values_are_errors_that_name_them(clean: Manifest, reader) -> None:
    save(mask(0.25, 1, 2), clean.folder / "m0.nii.gz")
    save(mask(-3, 1, 2), clean.folder / "m1.nii.gz")
    save(mask(*range(100)), clean.folder / "m2.nii.gz")
    report = check_manifest(clean, reader)
    found = codes(report)
    assert found["fractional_value"] == ("error", (2,))
    assert found["negative_value"] == ("error", (3,))
    assert found["many_values"] == ("error", (4,))
    assert "found 0.25" in next(f.sentence for f in report.findings if f.code == "fractional_value")


def test_a_rare_value_is_a_warning_and_an_unexpected_one_an_error(clean: Manifest, reader) -> None:
    save(mask(1, 2, 200), clean.folder / "m7.nii.gz")
    unsure = check_manifest(clean, reader)
    assert unsure.is_ok
    assert codes(unsure) == {"rare_value": ("warning", (9,))}
    sure = check_manifest(clean, reader, expected_values=(0, 1, 2))
    assert codes(sure) == {"unexpected_value": ("error", (9,))}
    assert "200" in sure.findings[0].sentence


def test_equal_voxels_are_found_in_other_files_and_are_errors_across_splits(clean: Manifest, reader) -> None:
    save(image(0), clean.folder / "i1.nii.gz")  # train and val
    save(image(3), clean.folder / "copy.nii")  # another file of a train subject
    manifest = with_row(clean, 6, image="copy.nii")
    assert codes(check_manifest(manifest, reader)) == {
        "duplicate_across_splits": ("error", (2, 3)),
        "duplicate_across_subjects": ("warning", (5, 8)),
    }
    same = with_row(clean, 8, image="i2.nii.gz", subject="p2")
    assert codes(check_manifest(same, reader))["duplicate"] == ("warning", (4, 10))


def test_a_subject_in_two_splits_or_at_two_sites_is_found(clean: Manifest, reader) -> None:
    report = check_manifest(with_row(clean, 1, subject="p0"), reader)
    assert codes(report) == {
        "subject_in_two_splits": ("error", (2, 3)),
        "subject_at_two_sites": ("warning", (2, 3)),
    }


def test_studies_without_a_target_are_counted(clean: Manifest, reader) -> None:
    report = check_manifest(with_row(clean, 4, target=""), reader)
    assert codes(report) == {"no_target": ("warning", (6,))}
    assert report.is_ok


def test_class_labels_are_counted(clean: Manifest, reader) -> None:
    rows = tuple(replace(row, target="ill" if i < 5 else "well") for i, row in enumerate(clean.rows))
    report = check_manifest(replace(clean, rows=rows), reader)
    assert report.classes == (("ill", 5), ("well", 7))
    assert report.mask_values == ()


def test_values_that_look_personal_are_warnings_by_line_and_never_shown(clean: Manifest, reader) -> None:
    manifest = with_row(clean, 2, subject="Mustermann_Erika", scanner="SN 4829131")
    report = check_manifest(manifest, reader)
    assert report.is_ok
    assert [(f.code, f.lines) for f in report.findings] == [("looks_personal", (4,)), ("looks_personal", (4,))]
    assert "Mustermann" not in report.to_json()
    assert "4829131" not in report.to_json()


def test_expected_values_are_read_from_text() -> None:
    assert parse_values("0,1,2.5") == (0.0, 1.0, 2.5)
    assert parse_values("") is None
    with pytest.raises(ConfigError):
        parse_values("a,b")


def test_hostile_label_values_are_found(real_data: Path, tmp_path: Path, reader) -> None:
    folder = real_data / "hostile" / "nifti"
    rows = tuple(
        StudyRow(name, name, "A", str(folder / "big_endian.nii.gz"), str(folder / f"{name}.nii.gz"), "train")
        for name in ("label_float_fraction", "label_value_200")
    )
    found = codes(check_manifest(Manifest(rows, tmp_path), reader, expected_values=(0, 1, 2)))
    assert found["fractional_value"] == ("error", (2,))
    assert found["unexpected_value"][0] == "error"
