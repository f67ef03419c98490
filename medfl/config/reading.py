"""From a YAML file to settings, and back; every mistake is named with its line."""

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medfl.config.settings import Config
from medfl.config.strict_yaml import load_strictly
from medfl.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read one YAML file.

    Parameters
    ----------
    path : Path
    overrides : tuple of str
        "training.rounds=3" replaces one setting; the value is read as YAML.

    Returns
    -------
    Config
        With `${NAME}` replaced from the environment.

    Raises
    ------
    ConfigError
        Naming file, line and setting.
    """
    return parse_config(_text(path), source=str(path), overrides=overrides)


def parse_config(text: str, *, source: str = "configuration", overrides: tuple[str, ...] = ()) -> Config:
    """Read settings from YAML text; see `load_config`."""
    value, tree = load_strictly(text, source)
    if not isinstance(value, dict) or tree is None:
        raise ConfigError(f"{source} must hold settings as 'name: value', found {type(value).__name__}.")
    for override in overrides:
        _apply(value, override)
    try:
        return Config.model_validate(_expanded(value))
    except ValidationError as error:
        raise ConfigError(_explained(error, tree, source)) from error


def with_protection(config: Config, path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Return the same run with the protections of another file: `protection:`, `privacy:` or both, and nothing else.

    Parameters
    ----------
    config : Config
    path : Path
    overrides : tuple of str
        As in `load_config`, for settings of the file.

    Raises
    ------
    ConfigError
        Naming file, line and setting.
    """
    value, tree = load_strictly(_text(path), str(path))
    if not isinstance(value, dict) or tree is None or not value or not set(value) <= {"protection", "privacy"}:
        raise ConfigError(f"{path} must hold 'protection:', 'privacy:' or both, and nothing else.")
    for override in overrides:
        _apply(value, override)
    try:
        return Config.model_validate(config.model_dump(mode="json") | _expanded(value))
    except ValidationError as error:
        raise ConfigError(_explained(error, tree, str(path))) from error


def dump_config(config: Config) -> str:
    """Return the resolved settings as YAML; reading it back gives an equal `Config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=False)


def _text(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The configuration {path} must be a readable file: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The configuration {path} must be UTF-8 text; it is not.") from error


def _apply(value: dict[str, Any], override: str) -> None:
    name, equals, raw = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"An override must read name=value, got {override!r}.")
    *parents, last = name.split(".")
    place = value
    for parent in parents:
        child = place.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {name}: '{parent}' holds a value, not settings.")
        place = child
    place[last], _ = load_strictly(raw, f"--set {name}")


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_expanded(child) for child in value]
    return _VARIABLE.sub(_variable, value) if isinstance(value, str) else value


def _variable(match: re.Match[str]) -> str:
    name = match.group(1)
    if name not in os.environ:
        raise ConfigError(f"The environment variable {name} must be set, for example: export {name}=/path/to/data")
    return os.environ[name]


def _explained(error: ValidationError, tree: Node, source: str) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        line, named = _find(tree, list(item["loc"]))
        lines.append(f"{source}:{line}: {'.'.join(named) or 'settings'}: {item['msg'].removeprefix('Value error, ')}.")
    return "\n".join(lines)


def _find(tree: Node, place: list[str | int]) -> tuple[int, list[str]]:
    """Follow a pydantic location through the YAML tree; tags of unions are not in the file and are passed over."""
    node, line, named = tree, tree.start_mark.line + 1, []
    for index, part in enumerate(place):
        if isinstance(node, MappingNode):
            for key, child in node.value:
                if isinstance(key, ScalarNode) and key.value == str(part):
                    node, line = child, key.start_mark.line + 1
                    named.append(str(part))
                    break
            else:
                is_tag = any(child.value == part for key, child in node.value if key.value == "kind")
                if index == len(place) - 1 and not is_tag:
                    named.append(str(part))
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            named.append(str(part))
    return line, named
