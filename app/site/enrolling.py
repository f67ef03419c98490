"""A site asks a hub to take it in, and takes the hub's answer; what it keeps of it is all that it trusts."""

import os
from datetime import datetime
from pathlib import Path

import medfl
from app.site.hub_link import HubLink
from app.site.settings import SiteSettings, load_settings
from medfl.errors import ConfigError, EnrolmentError, KeyFileError
from medfl.governance.audit_log import AuditLog
from medfl.governance.enrolment import EnrolmentAnswer, make_request, read_answer, write_signed
from medfl.governance.person import checked_person
from medfl.results.atomic import write_text

REQUEST = "enrolment-request.json"
FOLDER = "hub"
_ANSWER, _CA, _SIGNERS, _FINGERPRINT = "enrolment.json", "ca.crt", "allowed_signers", "fingerprint"


def write_request(settings: SiteSettings, now: datetime) -> Path:
    """Write the request that the site's administrator sends to the hub; nothing in it is secret.

    Parameters
    ----------
    settings : SiteSettings
    now : datetime
        With a time zone.

    Returns
    -------
    Path
    """
    path = settings.state / REQUEST
    made = make_request(settings.private_key, site=settings.name, medfl_version=medfl.__version__, now=now)
    write_signed(made, path)
    return path


def enroll(state: Path, answer: Path, *, fingerprint: str, by: str) -> EnrolmentAnswer:
    """Take a hub's answer.

    Parameters
    ----------
    state : Path
        The site's folder.
    answer : Path
        The file that the hub's operator sent.
    fingerprint : str
        Of the hub, by another way than the file; see `read_answer`.
    by : str
        Who compared it; goes into the audit log.

    Raises
    ------
    ConfigError
        If a name does not fit, or the folder cannot be written.
    EnrolmentError
        If the answer is not to be trusted, or not for this site. The refusal is logged, and nothing is changed.
    """
    settings = load_settings(state)
    who, log = checked_person(by), AuditLog(settings.audit_log)
    try:
        found = read_answer(answer, fingerprint=fingerprint, site=settings.name, private_key=settings.private_key)
    except EnrolmentError as error:
        log.append("site.enroll", who=who, verdict="refused", reason=error.reason)
        raise
    except KeyFileError:
        log.append("site.enroll", who=who, verdict="refused", reason="key")
        raise
    folder = settings.state / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_text(folder / _CA, found.ca)
        write_text(folder / _SIGNERS, found.allowed_signers)
        write_text(folder / _FINGERPRINT, found.fingerprint)
        write_signed(found, folder / _ANSWER)
    except OSError as error:
        raise ConfigError(f"A site's folder must be writable; it is not ({error.strerror}).") from error
    log.append("site.enroll", who=who, verdict="ok", digest=found.fingerprint)
    return found


def enrolment(settings: SiteSettings) -> EnrolmentAnswer:
    """Return the answer that this site took, checked again.

    Parameters
    ----------
    settings : SiteSettings

    Raises
    ------
    EnrolmentError
        If there is none, or it does not fit the site's name or key any more.
    """
    folder = settings.state / FOLDER
    try:
        fingerprint = (folder / _FINGERPRINT).read_text().strip()
    except OSError:
        raise EnrolmentError(
            "not_enrolled",
            f"A site must be enrolled at a hub before it runs; this one is not. Send {REQUEST} to the hub's operator "
            "and take the answer with 'medfl site enroll'.",
        ) from None
    return read_answer(folder / _ANSWER, fingerprint=fingerprint, site=settings.name, private_key=settings.private_key)


def is_enrolled(settings: SiteSettings) -> bool:
    """Tell whether the site has taken an answer, whatever it says."""
    return os.path.lexists(settings.state / FOLDER / _FINGERPRINT)


def enrolled_link(settings: SiteSettings) -> HubLink:
    """Return the way to the hub: the address in `site.yaml` where there is one, else the one in the answer.

    Raises
    ------
    EnrolmentError
        If the site is not enrolled.
    """
    found = enrolment(settings)
    ca = settings.state / FOLDER / _CA
    if not ca.is_file() or ca.read_text() != found.ca:
        raise EnrolmentError(
            "hub_certificate", f"{FOLDER}/{_CA} must be the certificate in the hub's answer; it is not. Enroll again."
        )
    return HubLink(settings.hub or found.address, ca, settings.private_key, settings.proxy.get_secret_value())
