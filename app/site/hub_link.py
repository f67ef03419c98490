"""The way from a site to its hub. Before a site starts, the hub must answer, be the right one and agree on the time."""

import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import httpx

import medfl
from medfl.errors import NetworkError

MOST_SKEW_S = 5.0
"""Flower's hub takes a signature for up to 5 s from its future and 305 s from its past."""

_TIMEOUT_S = 15.0
_HALF_A_SECOND = 0.5

_VERSION_HEADER = "medfl-version"
_VERSION = re.compile(r"[0-9A-Za-z.+!-]{1,40}")

Reason = Literal["hub_unreachable", "hub_certificate", "hub_answer", "clock", "version"]


@dataclass(frozen=True)
class HubLink:
    """Where the hub is, and how it and this site prove who they are.

    Attributes
    ----------
    address : str
        HOST:PORT.
    ca : Path or None
        Certificate of the hub's own authority. None is a link without TLS, for trials on one machine; no command
        makes one.
    private_key : Path or None
        Of the site; None where the hub does not ask for it, for trials too.
    proxy : str
        URL of the hospital's web proxy; empty for none.
    """

    address: str
    ca: Path | None
    private_key: Path | None
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True)
class HubFacts:
    """What the hub answered.

    Attributes
    ----------
    skew_s : float
        Seconds that this machine's clock is ahead of the hub's; good to about a second.
    version : str
        Of medfl at the hub; empty where it does not say.
    """

    skew_s: float
    version: str = ""


class HubCheckError(NetworkError):
    """A site must not talk to its hub yet.

    Parameters
    ----------
    reason : str
        "hub_unreachable", "hub_certificate", "hub_answer", "clock" or "version".
    message : str
        What must hold, what was found and what to do.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["HubCheckError"], tuple[str, str]]:
        """Travel between processes with both arguments."""
        return (type(self), (self.reason, str(self)))


def check_hub(link: HubLink, clock: Callable[[], float] = time.time) -> HubFacts:
    """Ask the hub whether it is there, and compare the clocks.

    Parameters
    ----------
    link : HubLink
    clock : callable
        Seconds since 1970.

    Raises
    ------
    HubCheckError
        If the hub cannot be reached, has another certificate or another medfl, does not say the time, or another one.
    """
    facts = ask_hub(link, clock)
    if facts.version and facts.version != medfl.__version__:
        raise HubCheckError(
            "version",
            f"Hub and site must have the same version of medfl; the hub has {facts.version}, this site "
            f"{medfl.__version__}. Install the hub's version here, or ask its operator.",
        )
    if abs(facts.skew_s) > MOST_SKEW_S:
        where = "ahead of" if facts.skew_s > 0 else "behind"
        raise HubCheckError(
            "clock",
            f"The clocks of site and hub must differ by less than {MOST_SKEW_S:g} s; this machine is "
            f"{abs(facts.skew_s):.0f} s {where} the hub. Set its clock, best by NTP.",
        )
    return facts


def ask_hub(link: HubLink, clock: Callable[[], float] = time.time) -> HubFacts:
    """Ask the hub for its health; whatever its clock says. See `check_hub`."""
    scheme = "http" if link.ca is None else "https"
    try:
        with httpx.Client(
            verify=_context(link.ca), proxy=link.proxy or None, trust_env=False, timeout=_TIMEOUT_S
        ) as client:
            before = clock()
            answer = client.get(f"{scheme}://{link.address}/health")
            after = clock()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise _refused(error, link) from None
    if answer.status_code != httpx.codes.OK:
        raise HubCheckError(
            "hub_answer",
            f"The hub must answer at {link.address}; status {answer.status_code} came back. Check address and proxy.",
        )
    try:
        said = parsedate_to_datetime(answer.headers["date"]).timestamp() + _HALF_A_SECOND
    except (KeyError, ValueError):
        raise HubCheckError("hub_answer", "The hub must say what time it is; it does not. Ask its operator.") from None
    skew = max(before - said, 0.0) if before > said else min(after - said, 0.0)
    version = answer.headers.get(_VERSION_HEADER, "")
    return HubFacts(skew, version if _VERSION.fullmatch(version) else "")


def _context(ca: Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return False
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _refused(error: Exception, link: HubLink) -> HubCheckError:
    through = " through the proxy" if link.proxy else ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return HubCheckError(
                "hub_certificate",
                f"The certificate at {link.address} must be from this hub's own authority; it is not ("
                f"{cause.verify_message.rstrip('.')}). If the hospital's firewall opens TLS connections, ask for an "
                "exception for this address; if the hub was made anew, enroll again.",
            )
        cause = cause.__cause__ or cause.__context__
    return HubCheckError(
        "hub_unreachable",
        f"The hub must be reachable at {link.address}{through}; it is not ({type(error).__name__}). Check the address, "
        "the firewall and, where there is one, the proxy.",
    )
