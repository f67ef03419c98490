"""The certificate that is shown at the hub's address; nothing but a greeting is sent, nothing is trusted."""

import base64
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote, urlsplit

from app.site.hub_link import HubLink
from medfl.errors import ConfigError
from medfl.governance.certificates import issuer_and_end

_TIMEOUT_S = 10.0
_LONGEST_ANSWER = 16 * 1024
_PASSED = re.compile(rb"HTTP/1\.[01] 200\b")


@dataclass(frozen=True)
class Shown:
    """The certificate that whoever answers shows.

    Attributes
    ----------
    issuer : str
        Name of who issued it.
    ends : datetime
    """

    issuer: str
    ends: datetime


def shown_certificate(link: HubLink) -> Shown | None:
    """Read the certificate that is shown, whoever issued it; through the proxy where the link has one.

    Parameters
    ----------
    link : HubLink

    Returns
    -------
    Shown or None
        None where none is shown, or the proxy is asked over TLS itself.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found = _greeted(link, context)
    try:
        return None if found is None else Shown(*issuer_and_end(found))
    except ConfigError:
        return None


def is_from_authority(link: HubLink) -> bool:
    """Tell whether the certificate that is shown is from the hub's authority, whatever address it is for."""
    context = ssl.create_default_context(cafile=None if link.ca is None else str(link.ca))
    context.check_hostname = False
    return _greeted(link, context) is not None


def _greeted(link: HubLink, context: ssl.SSLContext) -> bytes | None:
    if link.proxy and urlsplit(link.proxy).scheme != "http":
        return None
    host, _, port = link.address.rpartition(":")
    try:
        door = proxy_door(link.proxy) if link.proxy else (host, int(port))
        with socket.create_connection(door, timeout=_TIMEOUT_S) as raw:
            if link.proxy and not _passes(raw, link):
                return None
            with context.wrap_socket(raw, server_hostname=host) as secured:
                return secured.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None


def proxy_door(url: str) -> tuple[str, int]:
    """Return host and port of a proxy."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _passes(raw: socket.socket, link: HubLink) -> bool:
    """Ask the proxy for a way to the hub."""
    lines = [f"CONNECT {link.address} HTTP/1.1", f"Host: {link.address}"]
    parts = urlsplit(link.proxy)
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(words).decode()}")
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = raw.recv(1)  # a byte more would be the hub's
        if not data or len(answer) > _LONGEST_ANSWER:
            return False
        answer += data
    return _PASSED.match(answer) is not None
