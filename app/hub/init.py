"""A new hub: its folder, its private authority, its server's certificate, its keys and `hub.yaml`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from app.hub.settings import FILE, HubSettings, load_hub, make_hub
from app.supervision.new_folder import make_folder, write_secret
from medfl.audit.signature import SigningKey
from medfl.errors import ConfigError, KeyFileError
from medfl.governance.certificates import Authority, valid_until
from medfl.results.atomic import write_bytes, write_text

_FOLDERS = ("ca", "tls", "secrets", "keys", "sites", "submitted", "runs", "logs", "run", "flwr")


def init_hub(
    state: Path, *, name: str, host: str, port: int, now: datetime, other_hosts: Sequence[str] = ()
) -> tuple[HubSettings, str]:
    """Make a hub; nothing that exists is ever overwritten.

    Parameters
    ----------
    state : Path
        New or empty folder, for its owner only.
    name : str
        Of the hub.
    host : str
        Name or address that sites connect to.
    port : int
    now : datetime
        With a time zone.
    other_hosts : sequence of str
        More names and addresses of it.

    Returns
    -------
    settings : HubSettings
    fingerprint : str
        Of the authority; what sites compare.

    Raises
    ------
    ConfigError
        If the folder holds something, cannot be made, or a value does not fit.
    """
    values = {"schema": "medfl/hub/1", "name": name, "host": host, "port": port, "other_hosts": list(other_hosts)}
    settings = make_hub(state, values)
    try:
        make_folder(state, _FOLDERS, "hub")
        write_secret(settings.secret)
        authority = Authority.create(settings.ca, name, now)
        _issue(settings, authority, now)
        SigningKey.create(settings.signing_key, f"hub-{_word(name)}")
        write_text(state / FILE, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise ConfigError(f"A hub's folder must be writable; it is not ({error.strerror}).") from error
    return settings, authority.fingerprint


def renew(state: Path, now: datetime) -> datetime:
    """Give the hub's server a new key and certificate by the same authority; sites notice nothing.

    Parameters
    ----------
    state : Path
    now : datetime
        With a time zone.

    Returns
    -------
    datetime
        When it ends. A hub that runs shows it after a restart.

    Raises
    ------
    KeyFileError
        If the authority cannot be used.
    """
    settings = load_hub(state)
    return _issue(settings, Authority.load(settings.ca), now)


def allowed_signers(settings: HubSettings) -> str:
    """Return the public keys that sign for the hub, as `ssh-keygen -Y verify` takes them.

    Raises
    ------
    KeyFileError
        If the public key cannot be read.
    """
    public = settings.signing_key.with_name(f"{settings.signing_key.name}.pub")
    try:
        line = public.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise KeyFileError(f"The hub's public key {public.name} must be readable; it is not.") from error
    return f"hub-{_word(settings.name)} {' '.join(line.split()[:2])}\n"


def _issue(settings: HubSettings, authority: Authority, now: datetime) -> datetime:
    made = authority.issue(settings.hosts, now.astimezone(UTC))
    try:
        write_bytes(settings.private_key, made.private_key)
        write_bytes(settings.certificate, made.certificate)
    except OSError as error:
        raise ConfigError(f"A hub's folder must be writable; it is not ({error.strerror}).") from error
    return valid_until(made.certificate)


def _word(name: str) -> str:
    return "-".join(name.split())
