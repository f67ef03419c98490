"""What Flower's SuperLink knows is made what the hub's folder says: enrolled sites can connect, others cannot."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.hub.enrolling import enrolled
from app.hub.settings import HubSettings
from app.hub.superlink import SuperLink
from medfl.errors import FederationError
from medfl.results.atomic import write_text

_FILE = "registered.json"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    public_key: str
    node: int


class _Registered(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sites: dict[str, _Entry] = Field(default_factory=dict)


def registered(settings: HubSettings) -> dict[str, int]:
    """Return Flower's id of every site that was registered, by name."""
    return {site: entry.node for site, entry in _read(settings.state / _FILE).sites.items()}


def register_sites(settings: HubSettings, superlink: SuperLink) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Register new sites and unregister those that were shut out.

    Parameters
    ----------
    settings : HubSettings
    superlink : SuperLink
        Must run.

    Returns
    -------
    added, removed : tuple of str
        Names of sites.

    Raises
    ------
    FederationError
        If Flower refuses.
    EnrolmentError
        If a site's file was changed.
    """
    path, added, removed = settings.state / _FILE, [], []
    wanted = {request.site: request.public_key for request in enrolled(settings)}
    known = _read(path)
    there = {node.number for node in superlink.nodes()}
    for site, entry in list(known.sites.items()):
        if wanted.get(site) != entry.public_key:
            if entry.node in there:
                superlink.unregister(entry.node)
            removed.append(site)
        if wanted.get(site) != entry.public_key or entry.node not in there:
            del known.sites[site]
            write_text(path, known.model_dump_json())
    for site, public_key in wanted.items():
        if site not in known.sites:
            known.sites[site] = _Entry(public_key=public_key, node=superlink.register(site, public_key))
            write_text(path, known.model_dump_json())
            added.append(site)
    return tuple(added), tuple(removed)


def _read(path: Path) -> _Registered:
    try:
        return _Registered.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Registered()
    except (OSError, ValidationError) as error:
        raise FederationError(
            f"{_FILE} must say which sites Flower knows; it cannot be read. Move it and superlink.db away and start "
            "the hub again: every enrolled site is then registered anew."
        ) from error
