import errno
import sys
from pathlib import Path

import pytest

from app.supervision import telling
from app.supervision.running import Running, only_one, read_running, write_running
from app.supervision.supervised import Patience, Program, Supervised
from app.supervision.telling import Telling


def program(folder: Path) -> Supervised:
    return Supervised(Program("one", [sys.executable], {}, folder / "one.log"), Patience())


def test_a_problem_is_said_once_and_noted_until_it_is_over(tmp_path: Path) -> None:
    said: list[str] = []
    with only_one(tmp_path):
        one = Telling(tmp_path, [program(tmp_path)], said.append)
        for _ in range(3):
            one.tell("It ended.")
        found = read_running(tmp_path)
        assert found is not None
        assert (found.problem, found.phase, [each.name for each in found.programs]) == ("It ended.", "waiting", ["one"])
        one.phase = "running"
        one.over()
        found = read_running(tmp_path)
        assert found is not None
        assert (found.problem, found.phase) == ("", "running")
        one.tell("It ended.")
    assert said == ["It ended."] * 2


def test_a_full_disk_ends_nothing_is_said_once_and_is_over_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    is_full = [True]

    def write(state: Path, running: Running) -> None:
        if is_full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_running(state, running)

    monkeypatch.setattr(telling, "write_running", write)
    with only_one(tmp_path):
        one = Telling(tmp_path, [program(tmp_path)], said.append)
        one.tell("It ended.")
        for _ in range(3):
            one.over()
        assert said == [
            "It ended.",
            "The folder must be writable; it is not (No space left on device). Make room on its disk.",
        ]
        is_full[0] = False
        one.over()
        found = read_running(tmp_path)
        assert found is not None
        assert found.problem == one.problem == ""
