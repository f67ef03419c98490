"""One look at a hub: is it at work, which sites are connected, how far the runs are."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.hub.ended_runs import judged_runs
from app.hub.enrolling import enrolled
from app.hub.register import registered
from app.hub.settings import load_hub
from app.hub.submit import RunState, run_states
from app.hub.superlink import SuperLink
from app.supervision.running import Running, is_alive, read_running
from medfl.errors import FederationError
from medfl.governance.certificates import fingerprint_of, valid_until


@dataclass(frozen=True)
class SiteState:
    """A site that was taken in.

    Attributes
    ----------
    site : str
    status : str
        "connected", "away", "never seen", or "unknown" where the hub does not run.
    medfl_version : str
        What the site had when it asked to join.
    """

    site: str
    status: str
    medfl_version: str


@dataclass(frozen=True)
class HubState:
    """What was found.

    Attributes
    ----------
    name, address, fingerprint : str
    certificate_ends : datetime
        Of the server.
    running : Running or None
        None where the hub does not run.
    missing : tuple of str
        Programs that should run and do not.
    sites : tuple of SiteState
    runs : tuple of RunState
        The newest first.
    """

    name: str
    address: str
    fingerprint: str
    certificate_ends: datetime
    running: Running | None
    missing: tuple[str, ...]
    sites: tuple[SiteState, ...]
    runs: tuple[RunState, ...]


_WORDS = {"online": "connected", "offline": "away", "registered": "never seen"}


def hub_state(state: Path) -> HubState:
    """Look at a hub.

    Parameters
    ----------
    state : Path
        The hub's folder.

    Raises
    ------
    ConfigError
        If there is no such hub.
    """
    settings = load_hub(state)
    running = read_running(settings.state)
    missing = () if running is None else tuple(one.name for one in running.programs if not is_alive(one.number))
    connected: dict[int, str] = {}
    runs = run_states(settings)
    if running is not None and "superlink" not in missing:
        superlink = SuperLink(settings)
        try:
            connected = {node.number: node.status for node in superlink.nodes()}
        except FederationError:
            connected = {}
        runs = judged_runs(settings, superlink)
    numbers = registered(settings)
    sites = tuple(
        SiteState(one.site, _status(connected, numbers.get(one.site)), one.medfl_version) for one in enrolled(settings)
    )
    return HubState(
        name=settings.name,
        address=settings.address,
        fingerprint=fingerprint_of((settings.ca / "ca.crt").read_text()),
        certificate_ends=valid_until(settings.certificate.read_bytes()),
        running=running,
        missing=missing,
        sites=sites,
        runs=runs,
    )


def _status(connected: dict[int, str], number: int | None) -> str:
    if not connected or number is None:
        return "unknown"
    return _WORDS.get(connected.get(number, ""), "unknown")
