"""What a running hub or site says about itself: `STATE/run/running.json`, and a lock that one supervisor can hold."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from medfl.errors import ConfigError
from medfl.results.atomic import write_text

FOLDER = "run"
Phase = Literal["waiting", "running"]
_FILE, _LOCK = "running.json", "running.lock"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProgramFacts(_Closed):
    """One supervised program.

    Attributes
    ----------
    name : str
    number : int or None
        Of its process; None while it does not run.
    restarts : int
        Times that it ended since the supervisor was started.
    last_exit : int or None
        Exit code of the last end; negative for the number of a signal.
    """

    name: str
    number: int | None
    restarts: int
    last_exit: int | None


class Running(_Closed):
    """A supervisor and its programs.

    Attributes
    ----------
    number : int
        Process number of the supervisor.
    version : str
        Of medfl.
    since : datetime
    phase : str
        "waiting" before anything is started, or "running".
    problem : str
        The last thing that went wrong and has not been mended; empty for none.
    programs : tuple of ProgramFacts
    """

    number: int
    version: str
    since: AwareDatetime
    phase: Phase
    problem: str = ""
    programs: tuple[ProgramFacts, ...] = ()


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the folder's lock; a kill lets go of it.

    Parameters
    ----------
    state : Path
        Folder of the hub or the site.

    Raises
    ------
    ConfigError
        If it runs already, or its folder cannot be written.
    """
    folder = state / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"The folder must be writable; it is not ({error.strerror}).") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "A hub or a site must run once at a time; another process is at work in this folder already. Look at "
                "its status."
            ) from None
        yield
    finally:
        os.close(handle)


def is_running(state: Path) -> bool:
    """Tell whether a supervisor holds the folder's lock."""
    try:
        handle = os.open(state / FOLDER / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def write_running(state: Path, running: Running) -> None:
    """Note what runs."""
    write_text(state / FOLDER / _FILE, running.model_dump_json())


def read_running(state: Path) -> Running | None:
    """Return what runs now; None where no supervisor does, or it has said nothing yet."""
    if not is_running(state):
        return None
    try:
        return Running.model_validate_json((state / FOLDER / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def is_alive(number: int | None) -> bool:
    """Tell whether a process is there and has not ended."""
    if number is None:
        return False
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
