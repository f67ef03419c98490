"""A new site: its folder, its key pair, its secret, `site.yaml`, and the request that the hub enrolls it by."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

from app.site.enrolling import write_request
from app.site.settings import FILE, parse_settings
from app.supervision.new_folder import make_folder, write_secret
from medfl.errors import ConfigError
from medfl.governance.audit_log import AuditLog
from medfl.governance.site_keys import create_site_key
from medfl.results.atomic import write_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FOLDERS = ("keys", "keys/transforms", "approvals", "ledger", "runs", "secrets", "run", "logs")


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
        make_folder(state, _FOLDERS, "site")
        write_text(state / FILE, text)
        write_secret(settings.secrets / "superexec")
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
