"""A plan's run on one site's own data alone, so that an audit can say beforehand what this site's share gives away."""

from pathlib import Path

from medfl.config.data import ColumnSites, ManifestSource
from medfl.config.settings import Config
from medfl.data.manifest import Manifest, rebase, write_manifest
from pipelines.plan import make_plan
from pipelines.sources import load_site

LIMITS = (
    "A rehearsal is this plan on this site's data alone. It measures what this site's own share would give away; it "
    "knows neither the models that come from the other sites nor what earlier and later runs give away together."
)


def rehearsal_config(config: Config, manifest: Path) -> Config:
    """Return the settings of a plan for one site: everything the same but where the data come from.

    Parameters
    ----------
    config : Config
        Of the plan.
    manifest : Path
        From `write_rehearsal_manifest`.
    """
    source = ManifestSource(kind="manifest", path=str(manifest))
    data = config.data.model_copy(update={"source": source, "sites": ColumnSites(kind="column")})
    federation = config.federation.model_copy(update={"minimum_replies": 1})
    evaluation = config.evaluation.model_copy(update={"keep_releases": "all"})
    return config.model_copy(update={"data": data, "federation": federation, "evaluation": evaluation})


def rehearsal_manifest(config: Config, manifest: Path, site: str, folder: Path, without: frozenset[str]) -> Manifest:
    """Return a site's studies with the splits that the plan gives them, without who withdrew, seen from a folder.

    Parameters
    ----------
    config : Config
    manifest : Path
        Of the site.
    site : str
    folder : Path
    without : frozenset of str

    Raises
    ------
    ManifestError
        If the manifest breaks its schema.
    """
    return rebase(load_site(manifest, site, config, without=without), folder)


def write_rehearsal_manifest(manifest: Manifest) -> Path:
    """Write it into its folder; returns the file."""
    path = manifest.folder / "manifest.csv"
    write_manifest(manifest, path)
    return path


def rehearsal_sha256(config: Config, manifest: Manifest, site: str) -> str:
    """Return the hash that a rehearsal's report has to be about: of settings, version and this site's data.

    Parameters
    ----------
    config : Config
        Of the plan.
    manifest : Manifest
        From `rehearsal_manifest`.
    site : str
    """
    own = rehearsal_config(config, manifest.folder / "manifest.csv")
    return str(make_plan(own, {site: manifest.digest()})["sha256"])
