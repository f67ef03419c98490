"""What Flower carries to both apps: the plan, the hub's run folder, the number of sites."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.errors import ConfigError

PLAN, OUT, SITES = "plan", "out", "sites"
_DELETE = "\x7f"


@dataclass(frozen=True)
class HubSettings:
    """What the hub has to know.

    Attributes
    ----------
    config : Config
    out : Path
        The hub's run folder.
    sites : int
        How many sites must be there before the first round, >= 1.
    """

    config: Config
    out: Path
    sites: int


def run_config_toml(settings: HubSettings) -> str:
    """Return the file for `flwr run APP --run-config FILE.toml`.

    The plan travels as YAML text in one TOML string. A TOML basic string takes every JSON escape; only DEL may not
    stand in it as it is.
    """
    values: dict[str, str | int] = {
        PLAN: dump_config(settings.config),
        OUT: str(settings.out.resolve()),
        SITES: settings.sites,
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines).replace(_DELETE, "\\u007f") + "\n"


def plan_text(run_config: Mapping[str, object]) -> str:
    """Return the plan as YAML text; equal texts mean equal plans.

    Raises
    ------
    ConfigError
        If there is none.
    """
    text = str(run_config.get(PLAN, ""))
    if not text:
        raise ConfigError(f"The run configuration must hold a {PLAN}; it is empty. Pass --run-config FILE.toml.")
    return text


def hub_settings(run_config: Mapping[str, object]) -> HubSettings:
    """Read what the hub has to know.

    Raises
    ------
    ConfigError
        If something is missing or the plan has a mistake.
    """
    config = parse_config(plan_text(run_config), source=PLAN)
    out, sites = str(run_config.get(OUT, "")), run_config.get(SITES, 0)
    if not out:
        raise ConfigError(f"The run configuration must name the hub's run folder as {OUT}; it is empty.")
    if not isinstance(sites, int) or sites < 1:
        raise ConfigError(f"{SITES} in the run configuration must be a whole number from 1, found {sites!r}.")
    return HubSettings(config, Path(out), sites)
