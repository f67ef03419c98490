"""Ends a hub that runs, from another terminal."""

import os
import signal
import time
from pathlib import Path

from app.hub.settings import load_hub
from app.supervision.running import is_running, read_running
from medfl.errors import FederationError

_PATIENCE_S = 40.0
_STEP_S = 0.1


def stop_hub(state: Path) -> bool:
    """Ask a hub to end and wait for it; runs go on when it is started again.

    Parameters
    ----------
    state : Path
        The hub's folder.

    Returns
    -------
    bool
        False where it did not run.

    Raises
    ------
    FederationError
        If it does not end.
    """
    folder = load_hub(state).state
    if not is_running(folder):
        return False
    deadline, asked = time.monotonic() + _PATIENCE_S, False
    while is_running(folder):
        running = read_running(folder)
        if running is not None and not asked:
            os.kill(running.number, signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            raise FederationError(f"The hub must end within {_PATIENCE_S:g} s; it does not. End its process by hand.")
        time.sleep(_STEP_S)
    return True
