"""Where the worker has an account of its own: the few files of the site's folder that it needs are made readable to it.

Only a site that runs as root can change accounts. The manifest and the images are the administrator's own files; that
the account can read them is theirs to see to.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from app.site.settings import SiteSettings
from medfl.governance.exclude_list import FILE as EXCLUDE_LIST

TRANSFORM_KEYS = "transforms"
"""Folder in ``keys`` for keys of keyed transforms and of noise; the worker counts in them how much they were used."""

_PASS_THROUGH = 0o711
_GROUP_READS = 0o640


def transform_keys(settings: SiteSettings) -> Path:
    """Return the folder of the keys that a worker computes with."""
    return settings.private_key.parent / TRANSFORM_KEYS


def prepare_worker_account(settings: SiteSettings) -> None:
    """Give the worker's account what it writes, and let it read who withdrew; nothing happens where it has none.

    The folder of the site can then be passed through by others, but not listed; approvals, secrets, the site's key and
    the audit log stay the owner's alone.

    Parameters
    ----------
    settings : SiteSettings
    """
    user = settings.worker.user
    if not user or os.geteuid() != 0:
        return
    state = settings.state
    own = [state / "runs", state / "run" / "worker", settings.cache, settings.ledger.parent, transform_keys(settings)]
    for folder in own:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in _all_in(folder):
            os.chown(path, user, user, follow_symlinks=False)
    for folder in (state, state / "run", settings.private_key.parent):
        folder.chmod(_PASS_THROUGH)
    share_exclude_list(settings)


def share_exclude_list(settings: SiteSettings) -> None:
    """Let the worker's account read the list of who withdrew; until then nothing is computed."""
    path = settings.state / EXCLUDE_LIST
    if settings.worker.user and os.geteuid() == 0 and path.is_file():
        os.chown(path, 0, settings.worker.user)
        path.chmod(_GROUP_READS)


def _all_in(folder: Path) -> Iterator[Path]:
    yield folder
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))
