import os
from pathlib import Path

import pytest

from medfl.results.atomic import write_bytes, write_text


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old and longer")
    write_text(tmp_path / "a", "grün\n")
    assert (tmp_path / "a").read_bytes() == "grün\n".encode()
    assert files_in(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_midway_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert files_in(tmp_path) == ["a"]


def test_content_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "lone surrogate \ud800")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert files_in(tmp_path) == ["a"]


def test_what_is_written_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
