"""The sites that a hub knows: a site's request goes in, one answer comes out; a site can be shut out again."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import medfl
from app.hub.init import allowed_signers
from app.hub.settings import HubSettings, load_hub
from medfl.errors import ConfigError, EnrolmentError
from medfl.governance.certificates import Authority
from medfl.governance.enrolment import EnrolmentAnswer, EnrolmentRequest, make_answer, read_request, write_signed


@dataclass(frozen=True)
class Enrolled:
    """What `enroll` made.

    Attributes
    ----------
    answer : EnrolmentAnswer
    is_new : bool
        False where the same site and key were there already, and the answer was only made again.
    """

    answer: EnrolmentAnswer
    is_new: bool


def enroll(state: Path, request: Path, out: Path, now: datetime) -> Enrolled:
    """Take a site in and write the answer to it.

    Parameters
    ----------
    state : Path
        The hub's folder.
    request : Path
        From the site.
    out : Path
        New file for the answer.
    now : datetime
        With a time zone.

    Raises
    ------
    ConfigError
        If the answer cannot be written.
    EnrolmentError
        If the request is not to be trusted, or a site has the same name or key.
    """
    settings = load_hub(state)
    authority = Authority.load(settings.ca)
    asked = read_request(request)
    if out.exists():
        raise ConfigError(f"--out must be a new file; {out.name} exists.")
    is_new = _check_new(settings, asked)
    answer = make_answer(
        authority,
        asked,
        hub=settings.name,
        address=settings.address,
        allowed_signers=allowed_signers(settings),
        medfl_version=medfl.__version__,
        now=now,
    )
    try:
        if is_new:
            write_signed(asked, _file(settings, asked.site))
        write_signed(answer, out)
    except OSError as error:
        raise ConfigError(f"The hub's folder and --out must be writable; they are not ({error.strerror}).") from error
    return Enrolled(answer, is_new)


def unenroll(state: Path, site: str) -> None:
    """Shut a site out: the hub forgets its key, and a running hub ends its connection.

    Parameters
    ----------
    state : Path
    site : str

    Raises
    ------
    EnrolmentError
        If there is no such site.
    """
    settings = load_hub(state)
    if site not in {one.site for one in enrolled(settings)}:
        raise EnrolmentError("not_enrolled", f"The site must be enrolled; '{site}' is not. See 'medfl hub status'.")
    _file(settings, site).unlink()


def enrolled(settings: HubSettings) -> tuple[EnrolmentRequest, ...]:
    """Return the requests of all sites that were taken in, by name.

    Parameters
    ----------
    settings : HubSettings

    Raises
    ------
    EnrolmentError
        If a file was changed.
    """
    return tuple(read_request(path) for path in sorted(settings.sites.glob("*.json")))


def _check_new(settings: HubSettings, asked: EnrolmentRequest) -> bool:
    for one in enrolled(settings):
        if one.site == asked.site and one.public_key == asked.public_key:
            return False
        if one.site == asked.site:
            raise EnrolmentError(
                "site",
                f"A site's name must be new; '{one.site}' is enrolled with another key. If the site lost its key, shut "
                "the old one out with 'medfl hub unenroll' first.",
            )
        if one.public_key == asked.public_key:
            raise EnrolmentError("key", f"A site's key must be its own; '{one.site}' is enrolled with this one.")
    return True


def _file(settings: HubSettings, site: str) -> Path:
    return settings.sites / f"{site}.json"
