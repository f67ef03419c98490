"""A new folder of a hub or a site, for its owner's account alone."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from medfl.errors import ConfigError

_SECRET_BYTES = 32


def make_folder(state: Path, inside: Iterable[str], kind: str) -> None:
    """Make a folder and those in it; an empty one may be there.

    Parameters
    ----------
    state : Path
    inside : iterable of str
        Names, those that hold others first.
    kind : str
        "hub" or "site".

    Raises
    ------
    ConfigError
        If it holds something; then nothing is changed.
    OSError
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(state.iterdir()):
        raise ConfigError(f"A new {kind} needs a new or empty folder; this one holds something. Nothing was changed.")
    state.chmod(0o700)
    for folder in inside:
        (state / folder).mkdir(mode=0o700)


def write_secret(path: Path) -> None:
    """Write a new secret that the programs of this folder share; raises OSError where one is there already."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(_SECRET_BYTES))
