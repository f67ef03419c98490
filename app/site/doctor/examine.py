"""All checks of a site, in the order in which they help: settings, secrets, hub, machine, data, plans."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.site.doctor.connection import check_connection
from app.site.doctor.egress import check_forbidden
from app.site.doctor.environment import check_environment
from app.site.doctor.finding import Finding, ok, problem, skipped
from app.site.doctor.plans import check_plans
from app.site.doctor.secret_files import check_secret_files
from app.site.doctor.site_data import check_data
from app.site.enrolling import enrolled_link
from app.site.settings import SiteSettings, load_settings
from medfl.errors import ConfigError, EnrolmentError, KeyFileError, MedFLError
from medfl.governance.audit_log import AuditLog


def examine(
    state: Path, now: datetime, *, is_offline: bool = False, with_step: bool = True, forbidden: Sequence[str] = ()
) -> Iterator[Finding]:
    """Look at everything; yields each finding as it is known.

    Parameters
    ----------
    state : Path
        The site's folder.
    now : datetime
        With a time zone.
    is_offline : bool
        Ask nothing of another machine.
    with_step : bool
        Try one training step of every approved plan.
    forbidden : sequence of str
        HOST:PORT that must not be reachable.
    """
    try:
        settings = load_settings(state)
    except ConfigError as error:
        yield problem("configuration.settings", str(error), "Correct site.yaml; nothing else was looked at.")
        return
    yield ok("configuration.settings", "site.yaml, secret files and variables hold known settings only.")
    yield from check_secret_files(settings)
    yield _log(settings)
    yield from _hub(settings, now, is_offline=is_offline)
    if not is_offline:
        yield from check_forbidden(forbidden)
    yield from check_environment(settings)
    yield from check_data(settings)
    yield from check_plans(settings, now.astimezone(UTC).date(), with_step=with_step)


def _log(settings: SiteSettings) -> Finding:
    try:
        broken = AuditLog(settings.audit_log).verify()
    except MedFLError as error:
        return problem("log.sound", str(error), "Nothing leaves while the log cannot be written.")
    if broken is not None:
        return problem("log.sound", "The audit log was changed.", "Find out where with 'medfl log verify'.")
    return ok("log.sound", "Every line of the audit log is as it was written.")


def _hub(settings: SiteSettings, now: datetime, *, is_offline: bool) -> Iterator[Finding]:
    try:
        link = enrolled_link(settings)
    except (EnrolmentError, KeyFileError) as error:
        yield problem("hub.enrolled", str(error), "See step 2 of docs/site-guide.md.")
        return
    yield ok("hub.enrolled", "The hub's answer is as it was taken, and for this site's key.")
    if is_offline:
        yield skipped("hub.reachable", "Nothing was asked of another machine (--offline).")
    else:
        yield from check_connection(link, now)
