"""A site stops answering at once, and answers again: the executor looks for `STATE/run/paused.json` all the time.

It holds whether the site runs or not, and after a restart. What is in work is ended, and the hub is told one word.
"""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from app.site.settings import load_settings
from app.supervision.running import FOLDER
from medfl.errors import ConfigError
from medfl.governance.audit_log import AuditLog
from medfl.governance.person import PersonName, checked_person
from medfl.results.atomic import write_text

_FILE = "paused.json"


class Pause(BaseModel):
    """Who stopped the site, and when.

    Attributes
    ----------
    by : str
    since : datetime
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: PersonName
    since: AwareDatetime


def paused(state: Path) -> Pause | None:
    """Return who paused the site; None where nobody did. A file that cannot be read pauses it, too."""
    try:
        return Pause.model_validate_json((state / FOLDER / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return Pause(by="unknown", since=datetime.fromtimestamp(0, UTC))


def pause(state: Path, *, by: str, now: datetime) -> bool:
    """Let the site answer nothing any more.

    Parameters
    ----------
    state : Path
        The site's folder.
    by : str
        Who does it; goes into the audit log.
    now : datetime
        With a time zone.

    Returns
    -------
    bool
        False where it was paused already; then nothing changes.

    Raises
    ------
    ConfigError
        If the name does not fit, or the folder cannot be written.
    AuditLogError
        If the log cannot be written; the site is paused all the same.
    """
    settings = load_settings(state)
    if paused(state) is not None:
        return False
    made = Pause(by=checked_person(by), since=now.astimezone(UTC))
    try:
        (state / FOLDER).mkdir(mode=0o700, exist_ok=True)
        write_text(state / FOLDER / _FILE, made.model_dump_json())
    except OSError as error:
        raise ConfigError(
            f"A site's folder must be writable; it is not ({error.strerror}). The site is not paused: end 'medfl site "
            "run' instead."
        ) from error
    AuditLog(settings.audit_log).append("site.pause", who=made.by, verdict="ok")
    return True


def resume(state: Path, *, by: str) -> bool:
    """Let the site answer approved plans again.

    Parameters
    ----------
    state : Path
    by : str
        Who does it; goes into the audit log first.

    Returns
    -------
    bool
        False where it was not paused.

    Raises
    ------
    ConfigError
        If the name does not fit; the site stays paused.
    AuditLogError
        If the log cannot be written; the site stays paused.
    """
    settings, who = load_settings(state), checked_person(by)
    if paused(state) is None:
        return False
    AuditLog(settings.audit_log).append("site.resume", who=who, verdict="ok")
    (state / FOLDER / _FILE).unlink(missing_ok=True)
    return True
