"""What a supervisor says: to whoever looks at its terminal, and in `STATE/run/running.json`."""

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import medfl
from app.supervision.running import Phase, ProgramFacts, Running, write_running
from app.supervision.supervised import Supervised

Say = Callable[[str], None]


class Telling:
    """Says a problem once, and notes it until it is over.

    Parameters
    ----------
    state : Path
        The folder of the hub or site.
    programs : iterable of Supervised
    say : callable
        Takes one line.
    """

    def __init__(self, state: Path, programs: Iterable[Supervised], say: Say) -> None:
        self._state, self._programs, self._say = state, tuple(programs), say
        self._since, self._told = datetime.now(UTC), ""
        self.phase: Phase = "waiting"
        self.problem = ""

    def tell(self, problem: str) -> None:
        """Say what went wrong, and note it."""
        self._tell(problem)
        self.note()

    def over(self) -> None:
        """Take note that it was mended."""
        self.problem = ""
        self.note()
        if not self.problem:
            self._told = ""

    def note(self) -> None:
        """Write down what runs; a full disk ends no supervisor: its programs go on, and room can be made."""
        programs = tuple(
            ProgramFacts(name=one.program.name, number=one.number, restarts=one.restarts, last_exit=one.last_exit)
            for one in self._programs
        )
        running = Running(
            number=os.getpid(),
            version=medfl.__version__,
            since=self._since,
            phase=self.phase,
            problem=self.problem,
            programs=programs,
        )
        try:
            write_running(self._state, running)
        except OSError as error:
            self._tell(unwritable(error))

    def _tell(self, problem: str) -> None:
        self.problem = problem
        if problem != self._told:
            self._say(problem)
        self._told = problem


def unwritable(error: OSError) -> str:
    """Return what is said where the folder of a hub or site cannot be written to."""
    return f"The folder must be writable; it is not ({error.strerror}). Make room on its disk."
