from pathlib import Path

import pytest

from app.dashboard.accessions import study_of
from medfl.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "accessions.csv"
    path.write_text("pseudonym,accession\ns-1, A-1 \n,A-2\ns-3,A-3\n")
    path.chmod(0o600)
    return path


def test_a_number_leads_to_its_pseudonym(table: Path) -> None:
    assert study_of(table.parent, "A-1") == "s-1"
    assert study_of(table.parent, " A-3 ") == "s-3"
    assert study_of(table.parent, "A-2") is None
    assert study_of(table.parent, "s-1") is None


def test_a_table_that_others_can_read_is_refused(table: Path) -> None:
    table.chmod(0o640)
    with pytest.raises(DataError, match="chmod 600"):
        study_of(table.parent, "A-1")


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b"\xff\xfe", b"accession\n1\n"])
def test_another_table_is_refused(table: Path, content: bytes) -> None:
    table.write_bytes(content)
    with pytest.raises(DataError):
        study_of(table.parent, "A-1")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="state folder"):
        study_of(tmp_path, "A-1")
