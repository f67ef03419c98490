import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.supervision.supervised import Patience, Program, Supervised

PATIENCE = Patience(first_s=0.05, longest_s=0.2, settled_s=1000, stuck_s=0.2, grace_s=0.5)
DEADLINE_S = 30.0


class Fake:
    """A program that does what its text says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Supervised] = []

    def __call__(self, code: str, patience: Patience = PATIENCE, **facts: bool) -> Supervised:
        command = (sys.executable, "-I", "-S", "-u", "-c", code)
        environment = {"PATH": os.environ["PATH"], "MARK": str(self.folder)}
        made = Supervised(Program("fake", command, environment, self.folder / "fake.log", **facts), patience)
        self.made.append(made)
        return made

    def alive(self) -> list[int]:
        mark = f"MARK={self.folder}".encode()
        return [int(place.parent.name) for place in Path("/proc").glob("[0-9]*/environ") if mark in _content(place)]


def _content(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(tmp_path)
    yield made
    for one in made.made:
        one.stop()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_due(one: Supervised) -> None:
    wait_for(lambda: one.is_due)


def test_a_program_is_started_again_whatever_its_exit_code(fake: Fake) -> None:
    for code in (0, 1, 7):
        one = fake(f"raise SystemExit({code})")
        for times in range(1, 4):
            wait_until_due(one)
            one.start()
            wait_for(one.step)
            assert (one.restarts, one.last_exit, one.number) == (times, code, None)


def test_a_program_that_is_killed_is_started_again(fake: Fake) -> None:
    one = fake("import time; time.sleep(1000)")
    one.start()
    assert one.number is not None
    assert not one.is_due
    os.kill(one.number, signal.SIGKILL)
    wait_for(one.step)
    assert one.last_exit == -signal.SIGKILL
    wait_until_due(one)
    one.start()
    assert not one.step()


def test_a_program_that_keeps_ending_waits_longer_each_time_up_to_a_limit(fake: Fake) -> None:
    now = [0.0]
    command = (sys.executable, "-I", "-S", "-c", "")
    program = Program("fake", command, {}, fake.folder / "fake.log")
    one = Supervised(program, Patience(first_s=1, longest_s=5, settled_s=100), lambda: now[0])
    waits = []
    for _ in range(5):
        one.start()
        wait_for(one.step)
        ended = now[0]
        while not one.is_due:
            now[0] += 0.5
        waits.append(now[0] - ended)
    assert waits == [1, 2, 4, 5, 5]
    one.start()
    now[0] += 200  # it ran for long
    assert one.is_settled
    wait_for(one.step)
    now[0] += 1
    assert one.is_due


def test_stopping_asks_first_and_then_ends_one_that_does_not_listen(fake: Fake) -> None:
    polite = fake("import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(3))\nprint('up')\ntime.sleep(1000)")
    polite.start()
    wait_for(lambda: b"up" in _content(fake.folder / "fake.log"))
    polite.stop()
    assert polite.last_exit == 3
    deaf = fake("import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(1000)")
    deaf.start()
    wait_for(lambda: b"deaf" in _content(fake.folder / "fake.log"))
    deaf.stop()
    assert deaf.last_exit == -signal.SIGKILL
    assert fake.alive() == []


def test_what_a_program_started_ends_with_it(fake: Fake) -> None:
    one = fake(
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(1000)'])\n"
        "print('up')"
    )
    one.start()
    wait_for(one.step)
    wait_for(lambda: fake.alive() == [])


def test_a_watched_program_that_reports_a_failure_and_stays_is_started_again(fake: Fake) -> None:
    code = "import time\nprint('Traceback (most recent call last):')\ntime.sleep(1000)"
    stuck = fake(code, is_watched=True)
    stuck.start()
    wait_for(stuck.step)
    assert stuck.restarts == 1
    unwatched = fake(code)
    unwatched.start()
    time.sleep(0.5)
    assert not unwatched.step()


def test_an_old_failure_in_the_log_does_not_end_a_program_that_was_started_again(fake: Fake) -> None:
    (fake.folder / "fake.log").write_text("Traceback (most recent call last):\n")
    one = fake("import time; time.sleep(1000)", is_watched=True)
    one.start()
    time.sleep(0.5)
    assert not one.step()


def test_a_log_is_kept_short_and_for_its_owner_only(fake: Fake) -> None:
    one = fake("import time\nprint('x' * 6_000_000)\ntime.sleep(1000)")
    one.start()
    log = fake.folder / "fake.log"
    wait_for(lambda: log.stat().st_size > 6_000_000)
    one.step()
    assert log.stat().st_size == 0
    assert (fake.folder / "fake.log.1").stat().st_size > 6_000_000
    assert log.stat().st_mode & 0o077 == 0


def test_nothing_is_left_when_the_supervisor_is_killed(fake: Fake) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from app.supervision.supervised import Patience, Program, Supervised\n"
        f"log = Path({str(fake.folder)!r}) / 'fake.log'\n"
        "deaf = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)'\n"
        f"one = Program('fake', (sys.executable, '-c', deaf), {{'MARK': {str(fake.folder)!r}}}, log)\n"
        "Supervised(one, Patience()).start()\n"
        "print('up', flush=True)\n"
        "time.sleep(1000)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == b"up\n"
    wait_for(fake.alive)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    wait_for(lambda: fake.alive() == [])


def test_a_program_whose_parent_is_gone_already_is_not_started(fake: Fake) -> None:
    starter = Path(sys.modules[Supervised.__module__].__file__ or "").with_name("starter.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(starter), "1", sys.executable, "-c", "print('ran')"], capture_output=True
    )
    assert (done.returncode, done.stdout) == (1, b"")
