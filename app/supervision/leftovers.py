"""What an earlier supervisor of the same folder started and could not end: found by a mark in its environment."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "MEDFL_SUPERVISED_BY"
_PATIENCE_S = 10.0
_STEP_S = 0.05


def marked(folder: Path) -> dict[str, str]:
    """Return the variable that marks every process of a folder's supervisor."""
    return {MARK: str(folder)}


def end_leftovers(folder: Path) -> int:
    """Kill every process that carries the folder's mark.

    Parameters
    ----------
    folder : Path
        Its supervisor must not run, or be this process, which carries no mark.

    Returns
    -------
    int
        How many there were.
    """
    ended, deadline = 0, time.monotonic() + _PATIENCE_S
    while (numbers := _carriers(folder)) and time.monotonic() < deadline:
        for number in numbers:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
                ended += 1
        time.sleep(_STEP_S)
    return ended


def _carriers(folder: Path) -> list[int]:
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
