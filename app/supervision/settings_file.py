"""`hub.yaml` and `site.yaml` as they lie in the folder that they are about."""

from pathlib import Path
from typing import Any, Final

from medfl.config.strict_yaml import load_strictly
from medfl.errors import ConfigError

STATE: Final = "state"
"""The setting that no file may hold: the folder is where the file lies."""

_LONGEST = 256 * 1024


def read_settings_file(path: Path, kind: str) -> bytes:
    """Read the file.

    Parameters
    ----------
    path : Path
    kind : str
        "hub" or "site".

    Raises
    ------
    ConfigError
        If it is not there, cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigError(
            f"A {kind}'s folder must hold {path.name}; it cannot be read ({error.strerror}). Make one with "
            f"'medfl {kind} init'."
        ) from error
    if len(content) > _LONGEST:
        raise ConfigError(f"{path.name} must be at most {_LONGEST // 1024} KiB; it is larger.")
    return content


def settings_in(content: bytes, name: str) -> dict[str, Any]:
    """Return the settings in a file's content; values are never quoted, they may be secret.

    Parameters
    ----------
    content : bytes
    name : str
        Of the file.

    Raises
    ------
    ConfigError
        If it is not a mapping in YAML, has a name twice, or says where it lies.
    """
    try:
        values, _ = load_strictly(content.decode(), name)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} must be YAML text; it is not.") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{name} must hold settings as 'name: value'.")
    if STATE in values:
        raise ConfigError(f"{name} must not say where it lies: remove '{STATE}'.")
    return values
