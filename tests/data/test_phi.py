import pytest

from medfl.data.manifest import StudyRow
from medfl.data.phi import kind_of, suspicions


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("Mustermann^Erika", "name"),
        ("mustermann^erika", "name"),
        ("Erika Mustermann", "name"),
        ("MUSTERMANN_ERIKA", "name"),
        ("scan-Müller, Jörg-2", "name"),
        ("ct_19600229_a", "date"),
        ("born 1960-02-29", "date"),
        ("29.02.1960", "date"),
        ("MRN00482913", "record number"),
        ("x_4829131", "record number"),
        ("", ""),
        ("hippocampus_001", ""),
        ("person1000_bacteria_2931", ""),
        ("NORMAL2-IM-0349-0001", ""),
        ("IM-0115-0001", ""),
        ("Brain_Scan", ""),
        ("CT_small", ""),
        ("19991399x", "record number"),
        ("site-1", ""),
        ("334c667800f224c4074c", ""),
        ("12345678901234567890", ""),
        ("deadbeef19600229", ""),
        ("abcd2345672345672345", ""),
    ],
)
def test_what_looks_personal_is_recognized(value: str, kind: str) -> None:
    assert kind_of(value) == kind


def test_columns_are_named_and_folders_are_not_looked_at() -> None:
    row = StudyRow("Erika Mustermann", "1", "", "/Erika Mustermann/a.nii.gz", "b/19600229.nii.gz", scanner="SN 1234567")
    assert [(s.column, s.kind) for s in suspicions(row)] == [
        ("subject", "name"),
        ("target", "date"),
        ("scanner", "record number"),
    ]


def test_phantoms_and_pseudonyms_are_not_suspected() -> None:
    row = StudyRow(
        "phantom-0001", "phantom-0001-1", "A", "images/phantom-0001-1.png", "lesion", scanner="phantom scanner 1"
    )
    assert suspicions(row) == ()
