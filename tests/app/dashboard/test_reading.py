import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.dashboard import reading
from app.dashboard.reading import Unreadable, inside
from app.dashboard.runs import RunEntry
from dashboard.run_folders import entry, segmentation_run

READERS: dict[str, Callable[[RunEntry], object]] = {
    "config.yaml": reading.read_config,
    "history.json": reading.read_history,
    "metrics.json": reading.read_metrics,
    "privacy.json": reading.read_privacy,
    "cases.csv": reading.read_cases,
    "model_card.md": reading.read_card,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "tiny", cases=2)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def problem_of(read: Callable[[RunEntry], object], run: RunEntry) -> str:
    """Return what kept a file from being read; "" where nothing did."""
    try:
        read(run)
    except Unreadable as error:
        return error.problem
    return ""


@pytest.mark.parametrize("name", READERS)
def test_a_whole_run_can_be_read(run: Path, name: str) -> None:
    assert READERS[name](entry(run))


@pytest.mark.parametrize("name", [name for name in READERS if name != "history.json"])
def test_a_missing_file_is_called_missing(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(Unreadable) as caught:
        READERS[name](entry(copy))
    assert (caught.value.problem, caught.value.file) == ("missing", name)


def test_a_run_before_its_first_round_has_an_empty_history(copy: Path) -> None:
    (copy / "history.json").unlink()
    assert reading.read_history(entry(copy)).rounds == ()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"rounds": 3}', b"\xff\xfe\x00", b"[" * 100_000, b"\x00" * 10])
@pytest.mark.parametrize("name", ["config.yaml", "history.json", "metrics.json", "privacy.json", "cases.csv"])
def test_a_damaged_file_is_never_more_than_unreadable(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    found = problem_of(READERS[name], entry(copy))
    assert found in ("unreadable", "other version") or (name == "cases.csv" and found == "")


@pytest.mark.parametrize("name", READERS)
def test_a_half_written_file_is_unreadable_or_shown_as_it_is(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[: (copy / name).stat().st_size // 2])
    assert problem_of(READERS[name], entry(copy)) in ("", "unreadable", "other version")


@pytest.mark.parametrize("name", READERS)
def test_a_very_large_file_is_not_opened(copy: Path, name: str) -> None:
    os.truncate(copy / name, 64_000_001)
    with pytest.raises(Unreadable) as caught:
        READERS[name](entry(copy))
    assert caught.value.problem == "large"


def test_a_report_that_is_not_there_damaged_or_large_says_which(copy: Path) -> None:
    def problem() -> str:
        with pytest.raises(Unreadable) as caught:
            reading.read_report(entry(copy))
        return caught.value.problem

    assert problem() == "missing"
    (copy / "audit").mkdir()
    (copy / "audit/report.json").write_text("{}")
    assert problem() == "other version"
    os.truncate(copy / "audit/report.json", 64_000_001)
    assert problem() == "large"


def test_a_plan_that_cannot_be_read_has_no_digest(copy: Path) -> None:
    assert reading.read_plan_digest(entry(copy)) == "ab" * 32
    (copy / "plan.json").write_text("[")
    assert reading.read_plan_digest(entry(copy)) == ""


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "link", "nowhere", "a\0b", "x" * 5000])
def test_a_prediction_outside_of_the_run_folder_is_none(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret").write_text("x")
    (run / "link").symlink_to(tmp_path / "secret")
    assert inside(run, name) is None


def test_a_prediction_inside_is_found(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_text("x")
    assert inside(tmp_path, "mask.png") == (tmp_path / "mask.png").resolve()
