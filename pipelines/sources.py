"""From the data settings to one manifest with sites and splits."""

import csv
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import medfl
from medfl.config.data import (
    ColumnSites,
    EqualSites,
    IndexSource,
    LabelSkewedSites,
    ManifestSource,
    NiftiSource,
    PhantomSource,
    SizedSites,
    Split,
)
from medfl.config.settings import Config
from medfl.data.importing import import_folder, import_nifti
from medfl.data.index_table import IndexColumns
from medfl.data.manifest import Manifest, read_manifest
from medfl.data.partition import assign_splits, by_column, by_label_dirichlet, by_size, hold_out_validation, iid
from medfl.data.phantoms import make_phantoms
from medfl.errors import ConfigError
from medfl.results.atomic import locked

_PUBLIC_KEY = hashlib.sha256(b"medfl: pseudonyms of public research sets").digest()
"""Public sets get the same pseudonyms, so the same splits, everywhere; hospitals import with a key of their own."""


def cache_folder() -> Path:
    """Return where prepared data are kept: `MEDFL_CACHE`, else the user's cache folder."""
    named = os.environ.get("MEDFL_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medfl"


def load_sites(config: Config) -> Manifest:
    """Return the studies of all sites, each with its site and its split.

    Raises
    ------
    ConfigError
        If a folder or file of the settings does not exist.
    DataError
        If nothing in it can be used.
    """
    imports = cache_folder() / "imports"
    imports.mkdir(parents=True, exist_ok=True)
    with locked(imports):
        manifest = _found(config)
    manifest = _divided(manifest, config)
    return _split(manifest, config.data.split)


def set_aside(config: Config) -> tuple[int, Path]:
    """Return how many files the import of these settings' source set aside, and the table that says why."""
    source = config.data.source
    match source:
        case ManifestSource():
            table = _existing(source.path).with_name("quarantine.csv")
        case NiftiSource():
            table = _import_folder(config, [_existing(source.images), _existing(source.targets)]) / "quarantine.csv"
        case IndexSource():
            inputs = [_existing(name) for name in (source.index, source.images, source.targets) if name]
            table = _import_folder(config, inputs) / "quarantine.csv"
        case PhantomSource():
            table = _import_folder(config, []) / "quarantine.csv"
    if not table.exists():
        return 0, table
    with table.open(newline="") as file:
        return max(0, sum(1 for _ in csv.reader(file)) - 1), table


def load_site(path: Path, name: str, config: Config, *, without: frozenset[str] = frozenset()) -> Manifest:
    """Return a real site's own studies, with the splits that a simulation of this site would give them.

    Parameters
    ----------
    path : Path
        The site's manifest; splits it already has are kept.
    name : str
        The site; it replaces what the manifest says.
    config : Config
    without : frozenset of str
        Subjects who withdrew. They are left out after the split, so that nobody else changes sides.

    Raises
    ------
    ManifestError
        If the manifest breaks its schema.
    """
    manifest = read_manifest(path)
    named = replace(manifest, rows=tuple(replace(row, site=name) for row in manifest.rows))
    divided = _split(named, config.data.split)
    return replace(divided, rows=tuple(row for row in divided.rows if row.subject not in without))


def _found(config: Config) -> Manifest:
    source = config.data.source
    match source:
        case ManifestSource():
            return read_manifest(_existing(source.path))
        case NiftiSource():
            images, targets = _existing(source.images), _existing(source.targets)
            out = _import_folder(config, [images, targets])
            if not (out / "manifest.csv").exists():
                import_nifti(images, out, targets=targets, subject_pattern=source.subject_pattern, key=_PUBLIC_KEY)
            return read_manifest(out / "manifest.csv")
        case IndexSource():
            index, images = _existing(source.index), _existing(source.images)
            optional = None if not source.targets else _existing(source.targets)
            out = _import_folder(config, [index, images, *([optional] if optional else [])])
            if not (out / "manifest.csv").exists():
                columns = IndexColumns(**source.columns.model_dump())
                import_folder(images, out, index=index, columns=columns, targets=optional, key=_PUBLIC_KEY)
            return read_manifest(out / "manifest.csv")
        case PhantomSource():
            split = config.data.split
            out = _import_folder(config, [])
            if (out / "manifest.csv").exists():
                return read_manifest(out / "manifest.csv")
            return make_phantoms(
                out,
                dimensions=source.dimensions,
                subjects=source.subjects,
                visits=source.visits,
                sites=source.sites,
                task=config.task.kind,
                seed=config.seed,
                fractions=(split.train, split.validation, split.test),
            )


def _divided(manifest: Manifest, config: Config) -> Manifest:
    sites, seed = config.data.sites, config.data.split.seed
    match sites:
        case ColumnSites():
            return by_column(manifest, merge=sites.merge)
        case EqualSites():
            return iid(manifest, sites.count, seed=seed)
        case SizedSites():
            return by_size(manifest, sites.shares, seed=seed)
        case LabelSkewedSites():
            return by_label_dirichlet(
                manifest, sites.count, alpha=sites.alpha, min_subjects=sites.minimum_subjects, seed=seed
            )


def _split(manifest: Manifest, split: Split) -> Manifest:
    given = {row.split for row in manifest.rows}
    if "" not in given and "val" not in given and split.validation:
        share = split.validation / (split.train + split.validation)
        return hold_out_validation(manifest, share, seed=split.seed)
    return assign_splits(manifest, (split.train, split.validation, split.test), seed=split.seed)


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        raise ConfigError(f"{name} must exist; it does not. Check the paths under 'data' and MEDFL_DATA.")
    return path.resolve()


def _import_folder(config: Config, inputs: list[Path]) -> Path:
    """Return the folder of an import in the cache; its name covers settings and every input file."""
    digest = hashlib.sha256(medfl.__version__.encode())
    digest.update(json.dumps(config.data.source.model_dump(mode="json"), sort_keys=True).encode())
    if not inputs:
        digest.update(f"{config.task.kind} {config.seed} {config.data.split!r}".encode())
    for place in inputs:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            facts = file.lstat()
            digest.update(f"{file} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return cache_folder() / "imports" / digest.hexdigest()[:32]
