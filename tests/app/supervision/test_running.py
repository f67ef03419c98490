import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.site.health import health
from app.supervision.running import ProgramFacts, Running, is_alive, is_running, only_one, read_running, write_running
from medfl.errors import ConfigError


def running(*numbers: int | None, phase: str = "running") -> Running:
    programs = tuple(
        ProgramFacts(name=f"program-{place}", number=number, restarts=0, last_exit=None)
        for place, number in enumerate(numbers)
    )
    return Running.model_validate(
        {"number": 1, "version": "1", "since": datetime.now(UTC), "phase": phase, "programs": programs}
    )


def test_a_second_supervisor_of_one_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with only_one(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(ConfigError, match="once at a time"), only_one(tmp_path):
            pass
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
    with only_one(tmp_path):
        pass


def test_a_killed_supervisor_lets_go_of_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from app.supervision.running import only_one\n"
        "with only_one(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(1000)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_running(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not is_running(tmp_path)


def test_what_an_ended_supervisor_said_counts_no_more(tmp_path: Path) -> None:
    with only_one(tmp_path):
        assert read_running(tmp_path) is None
        said = running(1)
        write_running(tmp_path, said)
        assert read_running(tmp_path) == said
        (tmp_path / "run" / "running.json").write_text("{")
        assert read_running(tmp_path) is None
        write_running(tmp_path, said)
    assert read_running(tmp_path) is None


def test_a_folder_that_cannot_be_written_is_a_named_refusal(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="writable"), only_one(tmp_path):
        pass


def test_a_process_that_has_ended_and_waits_to_be_collected_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(process.pid)
    assert process.stdin is not None
    process.stdin.close()
    while is_alive(process.pid):
        pass
    process.wait()
    assert not is_alive(process.pid)
    assert not is_alive(None)


def test_a_site_is_healthy_when_both_programs_run(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    gone.wait()
    alive = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert not health(tmp_path).is_healthy
    with only_one(tmp_path):
        assert not health(tmp_path).is_healthy
        write_running(tmp_path, running(alive.pid, alive.pid))
        assert health(tmp_path).is_healthy
        for numbers in ((alive.pid, gone.pid), (gone.pid, alive.pid), (alive.pid, None)):
            write_running(tmp_path, running(*numbers))
            assert "program-" in health(tmp_path).reason
        write_running(tmp_path, running(alive.pid, phase="waiting"))
        assert not health(tmp_path).is_healthy
        write_running(tmp_path, running(alive.pid, alive.pid))
    assert not health(tmp_path).is_healthy
    alive.communicate(b"\n")
