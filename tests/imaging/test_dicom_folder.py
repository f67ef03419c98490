import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_dicom import CR, axial_slices, image, save_all, saved

from medfl.errors import ImageReadError
from medfl.imaging.dicom import SeriesInfo, read_series
from medfl.imaging.dicom_facts import header_from_json, header_to_json
from medfl.imaging.dicom_folder import find_series
from medfl.imaging.dicom_header import read_header

PIXELS = np.ones((4, 3), np.int16)
STORAGE = "1.2.840.10008.5.1.4.1.1."


def outcome(series: SeriesInfo) -> str:
    try:
        read_series(series)
    except ImageReadError as error:
        return error.reason
    return "volume"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SOPClassUID": STORAGE + "6.1", "Modality": "US"}, "ultrasound"),
        ({"SOPClassUID": STORAGE + "3.1", "Modality": "US"}, "ultrasound"),
        ({"Modality": "IVUS"}, "ultrasound"),
        ({"SOPClassUID": STORAGE + "7"}, "secondary_capture"),
        ({"SOPClassUID": STORAGE + "7.4"}, "secondary_capture"),
        ({"Modality": "OT"}, "secondary_capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary_capture"),
        ({"ConversionType": "SD"}, "secondary_capture"),
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SOPClassUID": STORAGE + "88.11", "Modality": "SR"}, "not_an_image"),
        ({"SOPClassUID": STORAGE + "66.4", "Modality": "SEG"}, "not_an_image"),
        ({"SOPClassUID": STORAGE + "481.2", "Modality": "RTDOSE"}, "not_an_image"),
        ({"SOPClassUID": STORAGE + "77.1.4", "Modality": "XC"}, "unsupported_class"),
        ({"SOPClassUID": "1.2.3"}, "unsupported_class"),
        ({"PatientID": None}, "missing_patient"),
        ({"PatientID": " "}, "missing_patient"),
        ({"StudyInstanceUID": None}, "missing_attribute"),
    ],
    ids=str,
)
def test_what_may_show_a_name_or_is_no_image_is_set_aside(
    attributes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    saved(image(PIXELS, **attributes), tmp_path / "a.dcm")
    found = find_series(tmp_path)
    assert found.series == ()
    assert [file.reason for file in found.quarantined] == [reason]


def test_annotation_that_is_not_burned_in_passes(tmp_path: Path) -> None:
    saved(image(PIXELS, BurnedInAnnotation="NO", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]), tmp_path / "a.dcm")
    assert len(find_series(tmp_path).series) == 1


def test_one_bad_file_never_stops_the_good_ones(tmp_path: Path) -> None:
    save_all(axial_slices(5), tmp_path / "good")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "good" / "00_0.dcm")
    found = find_series(tmp_path)
    assert len(found.series) == 1
    assert len(found.series[0].files) == 5
    assert Counter(file.reason for file in found.quarantined) == {"not_dicom": 2, "not_a_file": 1}


def test_a_second_file_of_one_instance_is_set_aside(tmp_path: Path) -> None:
    saved(image(PIXELS), tmp_path / "a.dcm")
    saved(image(PIXELS * 2), tmp_path / "b.dcm")
    found = find_series(tmp_path)
    assert [file.reason for file in found.quarantined] == ["duplicate_instance"]
    assert read_series(found.series[0]).array.max() == 1


def test_a_series_that_mixes_orientations_and_shapes_becomes_parts(tmp_path: Path) -> None:
    save_all(axial_slices(4), tmp_path / "axial")
    sagittal = axial_slices(3, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for index, dataset in enumerate(sagittal):
        dataset.SOPInstanceUID, dataset.ImagePositionPatient = f"1.2.3.5.{index}", [index, 0, 0]
    save_all(sagittal, tmp_path / "sagittal")
    saved(image(np.ones((5, 5), np.int16), SOPInstanceUID="1.2.3.6"), tmp_path / "square")
    found = find_series(tmp_path)
    assert [(len(series.files), series.part, series.n_parts) for series in found.series] == [
        (4, 1, 3),
        (3, 2, 3),
        (1, 3, 3),
    ]
    assert {read_series(series).spatial_shape for series in found.series} == {(4, 4, 3), (4, 3, 3), (1, 5, 5)}


def test_directions_that_differ_by_rounding_stay_together(tmp_path: Path) -> None:
    slices = axial_slices(4)
    slices[2].ImageOrientationPatient = [0.99999, 0.0001, 0, -0.0001, 0.99999, 0]
    assert len(find_series(save_all(slices, tmp_path)).series) == 1


def test_patients_studies_and_radiographs_stay_apart(tmp_path: Path) -> None:
    for number, attributes in enumerate(
        [
            {},
            {"PatientID": "Roe"},
            {"StudyInstanceUID": "1.2.4"},
            {"SeriesInstanceUID": "1.2.3.2"},
            {"SOPClassUID": CR, "SeriesInstanceUID": "1.2.3.5"},
            {"SOPClassUID": CR, "SeriesInstanceUID": "1.2.3.5"},
        ]
    ):
        saved(image(PIXELS, **{"SOPInstanceUID": f"1.2.9.{number}", **attributes}), tmp_path / f"{number}.dcm")
    assert [len(series.files) for series in find_series(tmp_path).series] == [1] * 6


def test_the_importer_gets_the_facts_it_needs(tmp_path: Path) -> None:
    saved(image(PIXELS), tmp_path / "a.dcm")
    identity = find_series(tmp_path).series[0].identity
    assert (identity.patient_id, identity.study_uid, identity.series_uid) == ("Doe-4711", "1.2.3", "1.2.3.1")
    assert (identity.modality, identity.study_date, identity.sex) == ("CT", "20240229", "F")
    assert (identity.age_years, identity.scanner) == (34.0, "Phantom 9")


@pytest.mark.parametrize(("age", "years"), [("034Y", 34.0), ("006M", 0.5), ("", None), ("old", None), ("0x4Y", None)])
def test_an_age_is_given_in_years(age: str, years: float | None, tmp_path: Path) -> None:
    path = saved(image(PIXELS, PatientAge=None), tmp_path / "a.dcm")
    content = path.read_bytes()
    if age:
        dataset = image(PIXELS)
        dataset.PatientAge = "034Y"
        content = saved(dataset, path).read_bytes().replace(b"034Y", age.ljust(4).encode())
    path.write_bytes(content)
    assert read_header(path).identity.age_years == years


def test_a_header_travels_as_json(tmp_path: Path) -> None:
    header = read_header(saved(image(PIXELS, RescaleSlope="0.5", RescaleIntercept="-3"), tmp_path / "a.dcm"))
    assert header_from_json(json.loads(json.dumps(header_to_json(header)))) == header


def test_nothing_about_the_patient_is_printed_warned_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    dataset = image(PIXELS, RescaleSlope="0.25", RescaleIntercept="-77")
    path = saved(dataset, tmp_path / "Doe_Jane" / "a.dcm")
    content = path.read_bytes()
    for number, (good, bad) in enumerate(
        [
            (b"1.2.3.1", b"Doe^J\xff\xfe"),
            (b"20240229", b"Doe\xff\xfe^J "),
            (b"Phantom 9", b"Doe^\xff\xfe\\ \\"),
            (b"034Y", b"Doe "),
            (b"0.25", b"Doe^"),
            (b"-77 ", b"Doe "),
            (b"MONOCHROME2 ", b"Doe^Jane4711"),
        ]
    ):
        assert good in content
        path.with_name(f"{number}.dcm").write_bytes(content.replace(good, bad))
    found = find_series(tmp_path)
    shown = repr(found) + " ".join(file.message for file in found.quarantined)
    shown += caplog.text + "".join(capfd.readouterr())
    assert found.quarantined
    assert "Doe" not in shown
    assert "4711" not in shown


def test_every_file_of_the_real_sets_is_an_image_or_has_a_reason(real_data: Path) -> None:
    for name in ("dicom-pydicom", "dicom-highdicom"):
        found = find_series(real_data / name)
        n_files = sum(1 for path in (real_data / name).rglob("*") if path.is_file())
        assert sum(len(series.files) for series in found.series) + len(found.quarantined) == n_files
        for series in found.series:
            assert outcome(series) in ("volume", "missing_slices")


def test_a_dicomdir_tree_gives_its_patients_and_series(real_data: Path) -> None:
    found = find_series(real_data / "dicom-pydicom" / "test_files" / "dicomdirtests")
    patients = {series.identity.patient_id for series in found.series}
    studies = {series.identity.study_uid for series in found.series}
    assert (len(patients), len(studies)) == (2, 6)
    assert Counter(file.reason for file in found.quarantined)["dicomdir"] >= 1
    assert Counter(file.reason for file in found.quarantined)["localizer"] == 2
    stack = next(series for series in found.series if len(series.files) == 5)
    assert read_series(stack).array.shape == (1, 5, 16, 16)
