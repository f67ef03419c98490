"""The way to the hub: name, connection, proxy, certificate, clock; only the hub and the proxy are asked."""

import os
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta

import medfl
from app.site.doctor.finding import Finding, ok, problem, skipped, warning
from app.site.doctor.shown import is_from_authority, proxy_door, shown_certificate
from app.site.hub_link import MOST_SKEW_S, HubCheckError, HubFacts, HubLink, ask_hub
from medfl.governance.certificates import valid_until

_TIMEOUT_S = 10.0
_SOON = timedelta(days=30)
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def check_connection(link: HubLink, now: datetime) -> Iterator[Finding]:
    """Look at the way to the hub.

    Parameters
    ----------
    link : HubLink
    now : datetime
        With a time zone.
    """
    yield _variables(link)
    host, _, port = link.address.rpartition(":")
    if link.proxy:
        yield skipped("hub.name", "The proxy looks up the hub's name.")
    else:
        found = _name(host)
        yield found
        if found.status == "problem":
            return
    door, where = (proxy_door(link.proxy), "the proxy") if link.proxy else ((host, int(port)), "the hub")
    try:
        with socket.create_connection(door, timeout=_TIMEOUT_S):
            yield ok("hub.reachable", f"A connection to {where} can be made.")
    except OSError as error:
        yield problem(
            "hub.reachable",
            f"No connection to {where} can be made ({type(error).__name__}).",
            "Let the firewall pass one outgoing TCP connection to it; check host and port.",
        )
        return
    answer = _asked(link)
    yield from _certificates(link, now, answer)
    yield from _said_by_hub(answer)


def _asked(link: HubLink) -> HubFacts | HubCheckError:
    try:
        return ask_hub(link)
    except HubCheckError as error:
        return error


def _variables(link: HubLink) -> Finding:
    """Variables for proxies are not read: what is meant must stand in the settings."""
    seen = [name for name in _PROXY_VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]
    if seen and not link.proxy:
        return warning(
            "proxy.variables",
            f"{', '.join(seen)} is set in this environment, and is not used.",
            "If the hub is reached through a proxy, set 'proxy' in site.yaml or in secrets/medfl_site_proxy.",
        )
    host = link.address.rpartition(":")[0].lower()
    exempt = {part.strip().lower().lstrip(".") for part in _no_proxy().split(",")} - {""}
    if link.proxy and any(part == "*" or host == part or host.endswith(f".{part}") for part in exempt):
        return warning(
            "proxy.variables",
            "NO_PROXY in this environment names the hub, and is not used: the hub is asked through the proxy.",
            "If the hub is reached without a proxy, make 'proxy' empty in site.yaml.",
        )
    return ok("proxy.variables", "A proxy is used." if link.proxy else "No proxy is used, and none is asked for.")


def _no_proxy() -> str:
    return os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""


def _name(host: str) -> Finding:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return problem(
            "hub.name",
            "The hub's name has no address here.",
            "Ask for an entry in the hospital's name server, or set the hub's address in site.yaml (one that its "
            "certificate has).",
        )
    return ok("hub.name", f"The hub's name has {len(found)} addresses.")


def _certificates(link: HubLink, now: datetime, answer: HubFacts | HubCheckError) -> Iterator[Finding]:
    if link.ca is None:
        yield skipped("hub.certificate", "This link has no TLS.")
        return
    ends = valid_until(link.ca.read_bytes())
    if ends < now + _SOON:
        yield warning(
            "hub.authority",
            f"The certificate of the hub's authority ends on {ends:%Y-%m-%d}.",
            "Ask the hub's operator when every site enrolls anew.",
        )
    else:
        yield ok("hub.authority", f"The certificate of the hub's authority is good until {ends:%Y-%m-%d}.")
    if isinstance(answer, HubCheckError):
        if answer.reason == "hub_certificate":
            yield _intercepted(link, now)
        elif answer.reason == "hub_answer":
            yield problem("hub.certificate", str(answer), "Ask the hub's operator; the hub may still be starting.")
        else:
            yield problem("hub.certificate", str(answer), "Check the proxy's rules for this address.")
        return
    shown = shown_certificate(link)
    if shown is None:
        yield ok("hub.certificate", "The hub's certificate is from its own authority.")
    elif shown.ends < now + _SOON:
        yield warning(
            "hub.certificate",
            f"The hub's certificate is its own, and ends on {shown.ends:%Y-%m-%d}.",
            "Ask the hub's operator for 'medfl hub renew'.",
        )
    else:
        yield ok("hub.certificate", f"The hub's certificate is from its own authority, until {shown.ends:%Y-%m-%d}.")


def _intercepted(link: HubLink, now: datetime) -> Finding:
    shown = shown_certificate(link)
    if shown is None:
        return problem(
            "hub.certificate",
            "Whoever answers shows no certificate of the hub's authority.",
            "Check the address; ask the hub's operator whether the hub was made anew.",
        )
    if shown.ends < now:
        return problem(
            "hub.certificate",
            f"The certificate that is shown ended on {shown.ends:%Y-%m-%d}.",
            "Ask the hub's operator for 'medfl hub renew', and check this machine's clock.",
        )
    if is_from_authority(link):
        return problem(
            "hub.certificate",
            "The certificate is from the hub's authority, but not for the address in use.",
            "Set 'hub' in site.yaml to an address that the certificate has, or ask the hub's operator for one with it.",
        )
    return problem(
        "hub.certificate",
        f"Somebody between here and the hub opens TLS connections: the certificate is issued by '{shown.issuer}', not "
        "by the hub's authority.",
        "Ask the firewall's administrators for an exception for the hub's address. If that name is a hub's, the hub "
        "was made anew: enroll again after a telephone call.",
    )


def _said_by_hub(facts: HubFacts | HubCheckError) -> Iterator[Finding]:
    if isinstance(facts, HubCheckError):
        yield skipped("hub.clock", "The hub did not say what time it is.")
        return
    skew = facts.skew_s
    if abs(skew) > MOST_SKEW_S:
        where = "ahead of" if skew > 0 else "behind"
        yield problem(
            "hub.clock",
            f"This machine's clock is {abs(skew):.0f} s {where} the hub's; at most {MOST_SKEW_S:g} s are allowed.",
            "Set the clock by NTP.",
        )
    else:
        yield ok("hub.clock", "The clocks of site and hub agree.")
    if not facts.version:
        yield skipped("hub.version", "The hub does not say its version.")
    elif facts.version != medfl.__version__:
        yield problem(
            "hub.version",
            f"The hub has medfl {facts.version}, this site {medfl.__version__}.",
            "Install the hub's version here, or ask its operator; a plan is for one version.",
        )
    else:
        yield ok("hub.version", f"Hub and site have medfl {facts.version}.")
