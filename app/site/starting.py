"""`medfl site run`: a site that may not start says why, in its audit log, too."""

from pathlib import Path

from app.site.enrolling import enrolled_link
from app.site.settings import load_settings
from app.site.supervise import run_site
from app.supervision.telling import Say
from medfl.errors import ConfigError, EnrolmentError, KeyFileError
from medfl.governance.audit_log import AuditLog

_LOG, _WHO = "audit.jsonl", "medfl"


def start_site(state: Path, *, say: Say) -> None:
    """Run a site with its settings, at the hub it is enrolled at; see `run_site`.

    Parameters
    ----------
    state : Path
        The site's folder.
    say : callable
        Takes one line for the administrator.

    Raises
    ------
    ConfigError
        If there is no such site, or its settings have a mistake.
    EnrolmentError
        If it is not enrolled, or what it keeps of its hub was changed.
    KeyFileError
        If its key cannot be used.
    """
    try:
        link = enrolled_link(load_settings(state))
    except (ConfigError, EnrolmentError, KeyFileError) as error:
        if (state / _LOG).is_file():
            AuditLog(state / _LOG).append("site.start", who=_WHO, verdict="refused", reason=_reason(error))
        raise
    run_site(state, link, say=say)


def _reason(error: ConfigError | EnrolmentError | KeyFileError) -> str:
    if isinstance(error, EnrolmentError):
        return error.reason
    return "key" if isinstance(error, KeyFileError) else "settings"
