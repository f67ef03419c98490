"""A run as it goes on, read from the hub's run folder."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.hub.ended_runs import judged_run
from app.hub.settings import load_hub
from app.hub.submit import RunState, run_state
from app.hub.superlink import SuperLink
from app.supervision.running import is_running
from medfl.errors import FederationError, RunFolderError
from medfl.results.history import RoundRecord
from medfl.results.store import RunStore

_STEP_S = 0.2
_STEPS_PER_QUESTION = 100  # asking Flower starts a process


def follow(state: Path, plan_sha256: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[RoundRecord]:
    """Yield every round of a run once, as it ends; returns when the run has finished.

    Parameters
    ----------
    state : Path
        The hub's folder.
    plan_sha256 : str
    sleep : callable
        As `time.sleep`.

    Raises
    ------
    FederationError
        If the run stopped early, or the hub.
    """
    settings, told = load_hub(state), 0
    superlink = SuperLink(settings)
    for step in itertools.count(1):
        is_asked = step % _STEPS_PER_QUESTION == 0
        found = judged_run(settings, superlink, plan_sha256) if is_asked else run_state(settings, plan_sha256)
        if found is None:
            raise FederationError("The run must have been asked for; it was not. Start it with 'medfl hub submit'.")
        if found.round > told:
            rounds = _rounds(found)
            yield from rounds[told:]
            told = max(told, len(rounds))
        if found.state == "finished":
            return
        if found.state == "stopped":
            raise FederationError(f"The run stopped early: {found.reason}")
        if not is_running(settings.state):
            raise FederationError(
                "The hub must run until the run has finished; it stopped. Start it again: the run goes on."
            )
        sleep(_STEP_S)


def _rounds(found: RunState) -> tuple[RoundRecord, ...]:
    store = RunStore(found.folder)
    try:
        return store.read_history().rounds if store.has_history() else ()
    except RunFolderError:
        return ()
