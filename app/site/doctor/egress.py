"""Addresses that must not be reachable from here; asked only where an administrator names them."""

import socket
from collections.abc import Iterator, Sequence

from app.site.doctor.finding import Finding, ok, problem, skipped
from medfl.errors import ConfigError

_TIMEOUT_S = 5.0


def check_forbidden(addresses: Sequence[str]) -> Iterator[Finding]:
    """Try to connect to addresses that the firewall should stop.

    Parameters
    ----------
    addresses : sequence of str
        HOST:PORT each.

    Raises
    ------
    ConfigError
        If one is not HOST:PORT.
    """
    parted = [_parts(address) for address in addresses]
    if not parted:
        yield skipped("egress.forbidden", "No address was named that must not be reachable (--forbidden HOST:PORT).")
        return
    reached = [f"{host}:{port}" for host, port in parted if _answers(host, port)]
    if reached:
        yield problem(
            "egress.forbidden",
            f"{len(reached)} of {len(parted)} addresses that must not be reachable are: {', '.join(reached)}.",
            "Let this machine reach the hub's host and port only; app/site/container/egress.nft does that.",
        )
    else:
        yield ok("egress.forbidden", f"None of {len(parted)} forbidden addresses can be reached.")


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--forbidden must be HOST:PORT; found '{address}'.")
    return host, int(port)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            return True
    except OSError:
        return False
