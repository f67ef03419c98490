"""A new site: its folder, its key pair, its secret, `site.yaml`, and the request that the hub enrolls it by."""

import json
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

from app.site.enrolling import write_request
from app.site.settings import FILE, parse_settings
from medfl.errors import ConfigError
from medfl.governance.audit_log import AuditLog
from medfl.governance.site_keys import create_site_key
from medfl.results.atomic import write_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FOLDERS = ("keys", "keys/transforms", "approvals", "ledger", "runs", "secrets", "run", "logs")
_SECRET_BYTES = 32


@dataclass(frozen=True)
class NewSite:
    """What was made.

    Attributes
    ----------
    state : Path
    public_key : str
        One line in OpenSSH's format.
    request : Path
        For the hub's operator.
    """

    state: Path
    public_key: str
    request: Path


def init_site(state: Path, *, name: str, manifest: Path, hub: str, by: str, now: datetime) -> NewSite:
    """Make a site; nothing that exists is ever overwritten.

    Parameters
    ----------
    state : Path
        New or empty folder, for its owner only.
    name : str
        Of the site, as plans will name it.
    manifest : Path
        Of its data; may be made later.
    hub : str
        HOST:PORT, or empty.
    by : str
        Who does it; goes into the audit log.
    now : datetime
        With a time zone.

    Raises
    ------
    ConfigError
        If the folder holds something, cannot be made, or a value does not fit.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError("A site's name must be letters, digits, '.', '_' or '-', at most 64.")
    text = _settings_text(name, manifest, hub)
    settings = parse_settings(text.encode(), state)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(state.iterdir()):
            raise ConfigError("A new site needs a new or empty folder; this one holds something. Nothing was changed.")
        state.chmod(0o700)
        for folder in _FOLDERS:
            (state / folder).mkdir(mode=0o700)
        write_text(state / FILE, text)
        _write_secret(state / "secrets" / "superexec")
    except OSError as error:
        raise ConfigError(f"A site's folder must be writable; it is not ({error.strerror}).") from error
    public = create_site_key(settings.private_key, name)
    request = write_request(settings, now)
    AuditLog(settings.audit_log).append("site.init", who=by, verdict="ok")
    return NewSite(state, public, request)


def _settings_text(name: str, manifest: Path, hub: str) -> str:
    """Return the commented settings with the site's own values; JSON texts are YAML texts."""
    own = {"name": name, "hub": hub, "  manifest": str(manifest.absolute())}
    lines = []
    for line in resources.files("app.site").joinpath(FILE).read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(": ")
        _, sign, remark = rest.partition(" #")
        lines.append(f"{key}: {json.dumps(own[key], ensure_ascii=False)}{sign}{remark}" if key in own else line)
    return "\n".join(lines) + "\n"


def _write_secret(path: Path) -> None:
    """Write what SuperNode and executor share; nobody else reads it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(_SECRET_BYTES))
