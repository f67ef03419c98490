"""One program that is kept running: started again whatever its exit code, a little later each time it ends early."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_STARTER = Path(__file__).with_name("starter.py")
_LONGEST_LOG = 5 * 2**20
_TRACEBACK = b"Traceback (most recent call last)"
_TAIL = 64 * 1024


@dataclass(frozen=True)
class Patience:
    """How long to wait for what.

    Attributes
    ----------
    first_s, longest_s : float
        Before a program is started again: `first_s` at first, doubled each time, at most `longest_s`.
    settled_s : float
        A program that ran so long starts with `first_s` again.
    stuck_s : float
        A program that reported a failure of its own and did not end is ended after so long.
    grace_s : float
        Between asking a program to end and ending it.
    """

    first_s: float = 1.0
    longest_s: float = 30.0
    settled_s: float = 120.0
    stuck_s: float = 30.0
    grace_s: float = 10.0


@dataclass(frozen=True)
class Program:
    """What is kept running.

    Attributes
    ----------
    name : str
        For people, and of its log.
    command : sequence of str
        The program's absolute path, and its arguments.
    environment : mapping of str to str
        All of its variables.
    log : Path
        What it prints is added here; the part before the last 5 MiB is in `NAME.log.1`.
    is_watched : bool
        Whether a traceback in its log means that it no longer works. A SuperNode can lose the thread that talks to the
        hub and stay alive.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    is_watched: bool = False


class Supervised:
    """Keeps one program running; call `step` a few times a second.

    It ends with this process, also where this process is killed, and so does everything that it started in its own
    session.

    Parameters
    ----------
    program : Program
    patience : Patience
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, program: Program, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self.program = program
        self.restarts = 0
        self.last_exit: int | None = None
        self._patience, self._clock = patience, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._delay_s, self._due, self._started = patience.first_s, clock(), 0.0
        self._log_start, self._stuck_since = 0, 0.0

    @property
    def number(self) -> int | None:
        """Process number; None where it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def is_due(self) -> bool:
        """Whether the program does not run and should be started now."""
        return self._process is None and self._clock() >= self._due

    @property
    def is_settled(self) -> bool:
        """Whether it has run for a while without ending."""
        return self._process is not None and self._clock() - self._started >= self._patience.settled_s

    def start(self, program: Program | None = None) -> None:
        """Start it.

        Parameters
        ----------
        program : Program or None
            Takes the place of what was started before.
        """
        self.program = program or self.program
        starter = [sys.executable, "-I", "-S", str(_STARTER), str(os.getpid())]
        with os.fdopen(os.open(self.program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*starter, *self.program.command],
                env=dict(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        self._started, self._stuck_since = self._clock(), 0.0

    def step(self) -> bool:
        """Look after it.

        Returns
        -------
        bool
            Whether it has just ended.
        """
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            _shorten(self.program.log, self)
            if self._is_stuck():
                self.stop()
                code = self.last_exit
            else:
                return False
        self._ended(code)
        return True

    def postpone(self) -> None:
        """Wait once more before the next start."""
        self._due = self._clock() + self._delay_s
        self._delay_s = min(2 * self._delay_s, self._patience.longest_s)

    def ask_to_end(self) -> None:
        """Send SIGTERM, without waiting."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End it and everything in its session; asks first."""
        if self._process is None:
            return
        self.ask_to_end()
        try:
            self.last_exit = self._process.wait(self._patience.grace_s)
        except subprocess.TimeoutExpired:
            _signal_group(self._process.pid, signal.SIGKILL)
            self.last_exit = self._process.wait()
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process = None

    # --- inside ---------------------------------------------------------------------------------------------------

    def _ended(self, code: int | None) -> None:
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGKILL)
        self._process, self.last_exit = None, code
        self.restarts += 1
        if self._clock() - self._started >= self._patience.settled_s:
            self._delay_s = self._patience.first_s
        self.postpone()

    def _is_stuck(self) -> bool:
        if not self.program.is_watched or not _holds(self.program.log, self._log_start, _TRACEBACK):
            return False
        if not self._stuck_since:
            self._stuck_since = self._clock()
        return self._clock() - self._stuck_since > self._patience.stuck_s

    def log_was_moved(self) -> None:
        """Take note that the log begins anew."""
        self._log_start = 0


def _signal_group(number: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(number, what)


def _holds(log: Path, start: int, text: bytes) -> bool:
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(start, size - _TAIL))
            return text in file.read()
    except OSError:
        return False


def _shorten(log: Path, owner: Supervised) -> None:
    """Move what a long log holds aside; the program goes on writing at the end of the same file."""
    with suppress(OSError):
        if log.stat().st_size > _LONGEST_LOG:
            log.with_name(f"{log.name}.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)
            owner.log_was_moved()
