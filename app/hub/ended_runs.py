"""Runs whose process ended without a word: it was killed, or nothing could be written any more."""

import shutil
from dataclasses import replace

from app.hub.settings import HubSettings
from app.hub.submit import RunState, run_states
from app.hub.superlink import SuperLink
from medfl.errors import FederationError

_LEAST_ROOM = 2**24
_NO_ROOM = (
    "The hub's disk must have room; it has none left. Make room, then submit the plan again: the run goes on after "
    "its last finished round."
)
_NO_WORD = (
    "A run must say why it ends; its process ended without a word, as one that was killed does. See "
    "logs/superexec.log and the machine's memory, then submit the plan again: the run goes on after its last finished "
    "round."
)


def judged_runs(settings: HubSettings, superlink: SuperLink) -> tuple[RunState, ...]:
    """Return every run, the newest first; one that Flower has ended and that left no word is "stopped".

    Parameters
    ----------
    settings : HubSettings
    superlink : SuperLink
        Asked only where a run seems to be at work. Where it does not answer, nothing is judged.
    """
    if not any(_seems_at_work(one) for one in run_states(settings)):
        return run_states(settings)
    try:
        over = {run.number for run in superlink.runs() if run.is_over}
    except (FederationError, OSError):
        over = set()
    return tuple(  # read again: a run that ended meanwhile may have left its word meanwhile
        replace(one, state="stopped", reason=_reason(settings))
        if _seems_at_work(one) and one.submission.flower_runs[-1] in over
        else one
        for one in run_states(settings)
    )


def _seems_at_work(found: RunState) -> bool:
    return found.state in ("waiting", "running")


def _reason(settings: HubSettings) -> str:
    return _NO_ROOM if shutil.disk_usage(settings.state).free < _LEAST_ROOM else _NO_WORD
