"""Whether a site's programs are at work, in milliseconds: for a container's health check."""

from dataclasses import dataclass
from pathlib import Path

from app.supervision.running import is_alive, is_running, read_running


@dataclass(frozen=True)
class Health:
    """What was found.

    Attributes
    ----------
    is_healthy : bool
        SuperNode and executor both run. A paused site is healthy: it answers, with a refusal.
    reason : str
        One sentence; empty where it is healthy.
    """

    is_healthy: bool
    reason: str = ""


def health(state: Path) -> Health:
    """Look at the site's programs.

    Parameters
    ----------
    state : Path
        The site's folder.
    """
    if not is_running(state):
        return Health(is_healthy=False, reason="'medfl site run' does not run.")
    running = read_running(state)
    if running is None:
        return Health(is_healthy=False, reason="'medfl site run' has only just been started.")
    if running.phase == "waiting":
        return Health(is_healthy=False, reason=running.problem or "The site waits for its hub.")
    missing = [one.name for one in running.programs if not is_alive(one.number)]
    if missing:
        return Health(is_healthy=False, reason=f"Not at work: {', '.join(missing)}. {running.problem}".strip())
    return Health(is_healthy=True)
