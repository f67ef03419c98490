"""Plans for real sites: proposed from settings, and read back into the very same settings."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import ValidationError

import medfl
from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.data.manifest import Manifest
from medfl.errors import ConfigError
from medfl.governance.plan import Plan
from pipelines.sources import load_site

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Reasons:
    """Why a run is done, and until when; see `Plan`."""

    protocol: str
    legal_basis: str
    purpose: str
    contact: str
    expires: date


@dataclass(frozen=True)
class Counts:
    """Subjects and studies of a site by split, before any image is read."""

    subjects: dict[str, int]
    studies: dict[str, int]


def propose(config: Config, reasons: Reasons, sites: tuple[str, ...]) -> Plan:
    """Return the plan of a run.

    Parameters
    ----------
    config : Config
    reasons : Reasons
    sites : tuple of str

    Raises
    ------
    ConfigError
        If a value does not fit; every one is named.
    """
    if config.federation.minimum_replies > len(sites):
        raise ConfigError(
            f"federation.minimum_replies must be at most the {len(sites)} sites of the plan, found "
            f"{config.federation.minimum_replies}. Name more sites, or lower it."
        )
    try:
        return Plan.model_validate(
            {
                **vars(reasons),
                "name": config.name,
                "medfl_version": medfl.__version__,
                "sites": sites,
                "settings": dump_config(config),
            }
        )
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"A plan needs values that fit: {found}.") from error


def settings_of(plan: Plan) -> Config:
    """Return a plan's settings.

    Raises
    ------
    ConfigError
        If they have a mistake, are not written out in full, or are those of a run with another name.
    """
    config = parse_config(plan.settings, source="settings")
    if dump_config(config) != plan.settings:
        raise ConfigError(
            "The settings of a plan must be written out in full, every default with its value; these are not. "
            "Make the plan with 'medfl plan create'."
        )
    if config.name != plan.name:
        raise ConfigError("A plan must have the name of the run in its settings; it has another. Ask for a new plan.")
    return config


def counts_of(config: Config, manifest: Path, site: str, without: frozenset[str] = frozenset()) -> Counts:
    """Return how many subjects and studies a site would use.

    Parameters
    ----------
    config : Config
    manifest : Path
        Of the site's data.
    site : str
    without : frozenset of str
        Subjects who withdrew.

    Raises
    ------
    ManifestError
        If the manifest breaks its schema.
    """
    return counted(load_site(manifest, site, config, without=without))


def counted(manifest: Manifest) -> Counts:
    """Return the numbers of subjects and studies in every split."""
    parts = {split: manifest.where(split=split) for split in SPLITS}
    return Counts(
        {split: len(part.subjects()) for split, part in parts.items()},
        {split: len(part.rows) for split, part in parts.items()},
    )
