"""Keys and secrets: there, complete, and for the site's account alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from app.site.doctor.finding import Finding, ok, problem
from app.site.settings import SiteSettings

_OTHERS = 0o077
_OTHERS_WRITE = 0o022


def check_secret_files(settings: SiteSettings) -> Iterator[Finding]:
    """Look at modes and owners of what must be private.

    Parameters
    ----------
    settings : SiteSettings
    """
    state = settings.state
    mode = stat.S_IMODE(state.stat().st_mode)
    if mode & _OTHERS & ~0o011 or mode & _OTHERS_WRITE:
        yield problem(
            "secrets.folder", f"Others can read or write the site's folder (mode {mode:o}).", "chmod 700 STATE"
        )
    else:
        yield ok("secrets.folder", "The site's folder is closed to others.")
    needed = [settings.private_key, settings.secrets / "superexec"]
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        yield problem(
            "secrets.present",
            f"Missing: {', '.join(missing)}.",
            "Restore them from a backup, or make the site anew with 'medfl site init' and enroll again.",
        )
    else:
        yield ok("secrets.present", "The site's key and the secret of its programs are there.")
    open_files = [path.name for path in _private(settings) if _is_open(path)]
    if open_files:
        yield problem(
            "secrets.modes",
            f"Others can read or write {len(open_files)} files with keys or secrets, such as {sorted(open_files)[0]}.",
            "chmod 600 each of them (or stop to let another account own them); if others had access, enroll again with "
            "a new key.",
        )
    else:
        yield ok("secrets.modes", "Keys and secrets are closed to others.")


def _private(settings: SiteSettings) -> Iterator[Path]:
    for folder in (settings.private_key.parent, settings.secrets):
        if folder.is_dir():
            yield from (path for path in folder.iterdir() if path.is_file() and path.suffix != ".pub")


def _is_open(path: Path) -> bool:
    found = path.lstat()
    return bool(stat.S_IMODE(found.st_mode) & _OTHERS) or found.st_uid not in (os.geteuid(), 0)
