"""Ends one run at a hub; the hub and its other runs go on."""

from datetime import datetime
from pathlib import Path

from app.hub.settings import load_hub
from app.hub.submit import RunState, end_flower_run, run_states, write_submission
from app.hub.superlink import SuperLink
from app.supervision.running import read_running
from medfl.errors import ConfigError, FederationError
from medfl.results.atomic import locked


def cancel(state: Path, run: str, now: datetime) -> RunState:
    """End a run: no site is asked again, and it does not go on when the hub is started again.

    Its run folder keeps every finished round; submitting its plan again goes on with it.

    Parameters
    ----------
    state : Path
        The hub's folder.
    run : str
        Name of its run folder, as `medfl hub status` shows it.
    now : datetime
        With a time zone.

    Raises
    ------
    ConfigError
        If there is no such run, it has finished, or the hub's folder cannot be written to.
    FederationError
        If the hub is just starting, or Flower does not end the run; then it is not cancelled.
    """
    settings = load_hub(state)
    with locked(settings.submitted):
        found = next((one for one in run_states(settings) if one.folder.name == run), None)
        if found is None:
            raise ConfigError("A run must be named as 'medfl hub status' shows it; there is none of this name.")
        if found.state == "finished":
            raise ConfigError("A run must not have finished; this one has. Its results are in its run folder.")
        running = read_running(settings.state)
        if running is not None and running.phase != "running":
            raise FederationError("The hub must have started; it is just starting. Try again.")
        if running is not None:
            end_flower_run(SuperLink(settings), found.submission)
        try:
            write_submission(settings, found.submission.model_copy(update={"cancelled": now}))
        except OSError as error:
            raise ConfigError(
                f"The hub's folder must be writable; it is not ({error.strerror}). The run has ended, but goes on when "
                "the hub is started again. Make room and cancel it again."
            ) from error
    return next(one for one in run_states(settings) if one.folder.name == run)
