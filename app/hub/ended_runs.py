"""Runs whose process ended without a word: it was killed, or nothing could be written any more."""

import shutil
from dataclasses import replace

from app.hub.settings import HubSettings
from app.hub.submit import RunState, run_state, run_states
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
    over = _over(superlink) if any(map(_seems_at_work, run_states(settings))) else frozenset()
    # read again: a run that ended meanwhile may have left its word meanwhile
    return tuple(_judged(settings, one, over) for one in run_states(settings))


def judged_run(settings: HubSettings, superlink: SuperLink, plan_sha256: str) -> RunState | None:
    """Return the run of a plan as `judged_runs` does; None where it was not asked for."""
    found = run_state(settings, plan_sha256)
    if found is None or not _seems_at_work(found):
        return found
    over = _over(superlink)
    again = run_state(settings, plan_sha256)
    return None if again is None else _judged(settings, again, over)


def _over(superlink: SuperLink) -> frozenset[int]:
    try:
        return frozenset(run.number for run in superlink.runs() if run.is_over)
    except (FederationError, OSError):
        return frozenset()


def _judged(settings: HubSettings, one: RunState, over: frozenset[int]) -> RunState:
    if _seems_at_work(one) and one.submission.flower_runs[-1] in over:
        return replace(one, state="stopped", reason=_reason(settings))
    return one


def _seems_at_work(found: RunState) -> bool:
    return found.state in ("waiting", "running")


def _reason(settings: HubSettings) -> str:
    return _NO_ROOM if shutil.disk_usage(settings.state).free < _LEAST_ROOM else _NO_WORD
