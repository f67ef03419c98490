"""A whole federation in this process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp

from medfl.config.reading import dump_config
from medfl.config.settings import Config
from medfl.data.dataset import Refusal, prepare_all
from medfl.data.manifest import Manifest
from medfl.errors import ConfigError, DataError, RunFolderError
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.program import SITE_NAME, Arrays
from medfl.federation.records import from_record, to_record
from medfl.results.metrics import RunMetrics
from medfl.results.store import RunStore, file_stem
from pipelines.bookkeeping import simulated_books
from pipelines.build import build_pipeline, choose_device
from pipelines.client_app import make_client_app
from pipelines.custody import Custody, MemoryCustody, custody_beside
from pipelines.feature_program import make_program
from pipelines.pipeline import Pipeline
from pipelines.plan import make_plan
from pipelines.privacy_checks import check_privacy
from pipelines.progress import Observer
from pipelines.server_app import SITES, serve
from pipelines.site_program import PipelineProgram
from pipelines.sources import cache_folder, load_sites, set_aside
from pipelines.weights import as_arrays


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
        The run folder.
    metrics : RunMetrics
    refusals : tuple of Refusal
        Studies that could not be used.
    quarantined : int
        Files that the import set aside before.
    quarantine : Path
        The table that says why.
    prepared : Prepared
        The sites' programs as the run left them.
    """

    folder: Path
    metrics: RunMetrics
    refusals: tuple[Refusal, ...]
    quarantined: int
    quarantine: Path
    prepared: "Prepared"


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs before its first step; `start` are the weights it begins with."""

    manifest: Manifest
    start: Arrays
    pipeline: Pipeline[Any]
    programs: dict[str, PipelineProgram]
    refusals: tuple[Refusal, ...]


def simulate(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    ledgers: Path | None = None,
) -> Run:
    """Train and judge a model over simulated sites, and leave a run folder.

    Parameters
    ----------
    config : Config
    out : Path
        Run folder; it must be new, or hold this run when `resume` is set.
    resume : bool
        Go on after the last finished round.
    observer : Observer or None
    ledgers : Path or None
        Folder of the sites' ledgers, `SITE.db`, with an account for the run. None: a run with differential privacy of
        training keeps ledgers of its own in the run folder, any other keeps none.

    Returns
    -------
    Run

    Raises
    ------
    ConfigError
        If `out` holds another run.
    DataError
        If a site has no study to train on, or with differential privacy a subject is at two sites.
    LedgerExhaustedError
        If the sites' ledgers end the run early.
    """
    store = RunStore(Path(out))
    if store.is_started() and not resume:
        raise ConfigError(f"{out} already holds a run. Choose another --out, or go on with --resume.")
    if store.is_started() and store.read_settings()[0] != dump_config(config):
        raise ConfigError(f"{out} holds a run with other settings. Resume with the same ones, or choose another --out.")
    keyed = config.protection.keyed
    custody = custody_beside(
        store, create=not _has_released(store), image_cap=None if keyed is None else keyed.image_cap
    )
    prepared = prepare(config, store, observer or Observer(), custody, ledgers=ledgers)
    apps = {site: _client_app(program) for site, program in prepared.programs.items()}
    grid = LoopbackGrid(apps, run_config={})
    checkpoint = store.read_checkpoint() if resume else None
    if checkpoint is not None:
        _restore(grid, checkpoint.arrays)
    digests = {site: prepared.manifest.where(site=site).digest() for site in prepared.programs}
    if store.is_started() and store.read_settings()[1].get("sha256") != make_plan(config, digests)["sha256"]:
        raise ConfigError(f"{out} holds a run on other data or of another version of medfl. Choose another --out.")
    with grid.open():
        metrics = serve(
            grid,
            config,
            store,
            sites=len(apps),
            resume=resume,
            digests=digests,
            pipeline=prepared.pipeline,
            observer=observer,
            save_sites=lambda: _memories(grid),
        )
    quarantined, table = set_aside(config)
    return Run(store.folder, metrics, prepared.refusals, quarantined, table, prepared)


def prepare(
    config: Config,
    store: RunStore | None,
    observer: Observer,
    custody: Custody | None = None,
    *,
    ledgers: Path | None = None,
) -> Prepared:
    """Find, divide, read and cache the data, and build every site's program.

    Without a custody, keys are made on first use and forgotten with the process. Without a store nothing is booked.

    Raises
    ------
    DataError
        If a site has no study to train on, or a name cannot be a file name.
    """
    device = choose_device(config)
    pipeline = build_pipeline(config, device)
    start = as_arrays(pipeline.network.shared_state())
    manifest = load_sites(config)
    _check_names(manifest)
    studies, refusals = prepare_all(
        manifest,
        pipeline.preparation,
        cache=cache_folder(),
        encoder=pipeline.encoder,
        progress=observer.preparing,
    )
    keys = MemoryCustody()
    programs = {
        site: make_program(
            site,
            pipeline,
            [study for study in studies if study.row.site == site],
            manifest=manifest,
            config=config,
            store=store,
            device=device,
            custody=custody or keys,
            books=None if store is None else simulated_books(config, site, store, ledgers),
        )
        for site in manifest.sites()
    }
    for site, program in programs.items():
        if not program.studies["train"]:
            raise DataError(
                f"Every site needs at least one study to train on; {site} has none ({len(refusals)} studies of all "
                "sites could not be used). Check the data with: medfl data check"
            )
    check_privacy(config, programs)
    return Prepared(manifest, start, pipeline, programs, tuple(refusals))


def _has_released(store: RunStore) -> bool:
    return store.has_history() and any(record.bytes_up for record in store.read_history().releases)


def _check_names(manifest: Manifest) -> None:
    if not all(SITE_NAME.fullmatch(site) for site in manifest.sites()):
        raise DataError(
            "Site names must be letters, digits, blanks, '.', '_' or '-', at most 64. Check the site column."
        )
    try:
        for row in manifest.rows:
            file_stem(row.site)
            file_stem(row.study)
    except RunFolderError as error:
        raise DataError(f"The manifest cannot be used: {error}") from error


def _client_app(program: PipelineProgram) -> ClientApp:
    return make_client_app(lambda context: program)


def _memories(grid: LoopbackGrid) -> Arrays:
    memories: Arrays = {}
    for number, node in grid.nodes.items():
        for record_name, record in node.context.state.array_records.items():
            for name, array in from_record(record).items():
                memories[f"{number}/{record_name}/{name}"] = array
    return memories


def _restore(grid: LoopbackGrid, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    for name, array in arrays.items():
        if not name.startswith(SITES):
            continue
        number, record_name, key = name.removeprefix(SITES).split("/", 2)
        state = grid.nodes[int(number)].context.state
        record = state.array_records.get(record_name, ArrayRecord())
        state[record_name] = to_record(from_record(record) | {key: array})
