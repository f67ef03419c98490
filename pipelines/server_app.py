"""The hub's app: rounds, checkpoints, final metrics."""

import errno
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from medfl.config.reading import dump_config
from medfl.config.settings import Config
from medfl.errors import ConfigError, FederationError, MedFLError, ReplyError, RunFolderError, ShapeError
from medfl.federation.collected import Measured
from medfl.federation.hub import Hub, Limits
from medfl.federation.polling_grid import PollingGrid
from medfl.federation.program import Arrays, SiteFacts
from medfl.federation.reports import EXHAUSTED
from medfl.governance.ledger_errors import LedgerExhaustedError
from medfl.results.history import History, RoundRecord
from medfl.results.metrics import MetricValue, RunMetrics
from medfl.results.store import Checkpoint, RunStore
from pipelines.build import build_pipeline, build_strategy, choose_device
from pipelines.curves import curves_svg
from pipelines.feature_server import HeadTrainer, SharedFeatures, check_releases, share_features
from pipelines.minimization import Minimization
from pipelines.model_card import model_card
from pipelines.pipeline import Finished, Pipeline
from pipelines.plan import make_plan
from pipelines.progress import Observer
from pipelines.releases import release_record
from pipelines.run_config import HubSettings, hub_settings
from pipelines.weights import as_arrays

app = ServerApp()

SaveSites = Callable[[], Arrays]
_EXHAUSTED_ADVICE = "See 'medfl ledger show' at each site."
_NO_ROOM = (
    "The hub's disk must have room; it has none left. Make room, then submit the plan again: the run goes on after "
    "its last finished round."
)
_MODEL, _STRATEGY, SITES = "model/", "strategy/", "sites/"


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the plan that the run configuration holds; go on where the run folder has a part of it.

    Raises
    ------
    ConfigError
        If the run configuration has a mistake, or the run folder holds another run.
    """
    settings = hub_settings(context.run_config)
    store = RunStore(settings.out)
    with store.alone():  # the process of an ended run may have a moment left
        _serve_or_say_why(grid, settings, store)


def _serve_or_say_why(grid: Grid, settings: HubSettings, store: RunStore) -> None:
    if store.is_finished():
        return
    resume = store.is_started()
    if resume and store.read_settings()[0] != dump_config(settings.config):
        raise ConfigError("The run folder must be new or hold this plan's run; it holds another. Choose another 'out'.")
    store.write_stopped("")
    try:
        serve(PollingGrid(grid), settings.config, store, sites=settings.sites, resume=resume, paired=True)
    except MedFLError as error:
        store.write_stopped(str(error))
        raise
    except OSError as error:
        reason = _NO_ROOM if error.errno == errno.ENOSPC else f"The run folder must be writable; {error.strerror}."
        with suppress(OSError):  # nothing more may fit; 'medfl hub status' finds out then
            store.write_stopped(reason)
        raise
    except Exception as error:
        store.write_stopped(f"Something unexpected happened ({type(error).__name__}); see the hub's logs.")
        raise


def serve(
    grid: Grid,
    config: Config,
    store: RunStore,
    *,
    sites: int,
    resume: bool = False,
    digests: Mapping[str, str] | None = None,
    pipeline: Pipeline[Any] | None = None,
    observer: Observer | None = None,
    paired: bool = False,
    save_sites: SaveSites | None = None,
) -> RunMetrics:
    """Run a federation to its end over any grid.

    Parameters
    ----------
    grid : Grid
    config : Config
    store : RunStore
        The hub's run folder.
    sites : int
        How many sites must be there before the first round.
    resume : bool
        Go on after the last finished round.
    digests : mapping of str to str or None
        Data digests for the plan, where the hub may know them.
    pipeline : Pipeline[Any] or None
        Built from the settings when None.
    observer : Observer or None
    paired : bool
        Ask for the measures of a round's model in the message that trains it on in the next round, where weights are
        shared: one message to each site instead of two. The measures are the same, and known one round later.
    save_sites : callable or None
        Returns what simulated sites keep between rounds, for the checkpoint; real sites keep it themselves.

    Returns
    -------
    RunMetrics

    Raises
    ------
    FederationError
        If sites are missing, or no round ever succeeded.
    LedgerExhaustedError
        If the sites' ledgers end the run early; the model of the last allowed round is there and judged.
    """
    observer = observer or Observer()
    pipeline = pipeline or build_pipeline(config, choose_device(config))
    strategy = build_strategy(config, pipeline.network, sites=sites)
    federation = config.federation
    hub = Hub(grid, strategy, Limits(federation.minimum_replies, federation.round_timeout_s, federation.join_timeout_s))
    earlier = store.read_history() if resume and store.has_history() else History()
    history, done = History(), 0
    checkpoint = store.read_checkpoint() if resume else None
    store.write_settings(dump_config(config), make_plan(config, digests or {}))
    if federation.minimum_replies > sites:
        raise ConfigError(
            f"federation.minimum_replies must be at most the {sites} sites, got {federation.minimum_replies}."
        )
    paired = paired and config.sharing == "weights"
    members = hub.gather(sites)
    trainer = None
    if config.sharing == "features":
        observer.sharing()
        known = Minimization.from_arrays((store.read_minimization() if resume else None) or {})
        shared = _shared(hub, pipeline, config, store, members, earlier, known)
        earlier = earlier.model_copy(update={"releases": shared.releases})
        history = History(releases=shared.releases)
        trainer = HeadTrainer(pipeline, config, shared.received) if config.head_at == "hub" else None
    model = as_arrays(pipeline.network.shared_state()) if trainer is None else trainer.start()
    if checkpoint is not None and not all(record.skipped for record in earlier.rounds):
        model = _part(checkpoint.arrays, _MODEL)
        strategy.restore(_part(checkpoint.arrays, _STRATEGY))
        done = checkpoint.round
        history = earlier.until(done)
    rounds = config.training.rounds
    if resume and done < rounds:
        history = history.model_copy(update={"resumed": earlier.resumed + 1})
    observer.started(tuple(facts.site for facts in members), rounds, done)
    exhausted = False
    for number in range(done + 1, rounds + 1):
        observer.round_started(number)
        pairing = Pairing(
            measures_of=_unmeasured(config, history) if paired else 0, is_measured_later=paired and number < rounds
        )
        model, record, came = _round(hub, pipeline, config, model, number, observer, trainer, pairing)
        before = tuple(
            one.model_copy(update={"metrics": came}) if came and one.number == pairing.measures_of else one
            for one in history.rounds
        )
        history = history.model_copy(update={"rounds": (*before, record)})
        store.write_history(history)
        store.write_privacy(release_record(config, members, history))
        exhausted = is_exhausted(record, federation.minimum_replies)
        if exhausted:  # no checkpoint: with more budget, --resume asks for this round again
            break
        arrays = {_MODEL + name: array for name, array in model.items()}
        arrays |= {_STRATEGY + name: array for name, array in strategy.state().items()}
        arrays |= {SITES + name: array for name, array in (save_sites() if save_sites else {}).items()}
        store.write_checkpoint(Checkpoint(number, arrays))
        store.write_curves(curves_svg(history))
        observer.round_finished(record)
    if all(record.skipped for record in history.rounds):
        if exhausted:
            raise LedgerExhaustedError(
                f"The sites' ledgers must allow a first round; they refused it. {_EXHAUSTED_ADVICE}"
            )
        raise FederationError(
            "At least one round must succeed; every round was skipped: "
            f"{history.rounds[-1].skipped}. See history.json for each site's reason."
        )
    observer.finishing()
    metrics = _finish(hub, pipeline, config, store, model, history, members, observer)
    if exhausted:
        raise LedgerExhaustedError(
            f"The sites' ledgers must allow every round; they refused round {history.rounds[-1].number} of {rounds}. "
            f"The run folder holds the model of the last allowed round, judged. {_EXHAUSTED_ADVICE}"
        )
    return metrics


def is_exhausted(record: RoundRecord, minimum_replies: int) -> bool:
    """Tell whether so many ledgers refused a round that no further one can succeed."""
    refused = sum(part.refused == EXHAUSTED for part in record.sites)
    return refused > 0 and len(record.sites) - refused < minimum_replies


def _shared(
    hub: Hub,
    pipeline: Pipeline[Any],
    config: Config,
    store: RunStore,
    members: tuple[SiteFacts, ...],
    earlier: History,
    known: Minimization | None,
) -> SharedFeatures:
    """Collect features; whatever left a site is on record before anything is refused."""
    try:
        shared = share_features(hub, pipeline, config, known)
    except MedFLError:
        store.write_history(earlier)
        store.write_privacy(release_record(config, members, earlier))
        raise
    history = earlier.model_copy(update={"releases": shared.releases})
    if shared.minimized is not None:
        store.write_minimization(shared.minimized.to_arrays())
    store.write_history(history)
    store.write_privacy(release_record(config, members, history))
    check_releases(config, shared)
    return shared


@dataclass(frozen=True)
class Pairing:
    """Which measures of validation travel with the training of the round after.

    Attributes
    ----------
    measures_of : int
        Round whose model this round starts from, where its measures come with this round's training; 0 for none.
    is_measured_later : bool
        Those of this round come with the next one's.
    """

    measures_of: int
    is_measured_later: bool


def _is_due(config: Config, record: RoundRecord) -> bool:
    """Tell whether a round's model has to be measured and was not."""
    every = config.evaluation.every
    return bool(every) and record.number % every == 0 and not record.skipped and not record.metrics


def _unmeasured(config: Config, history: History) -> int:
    """Return the number of the last round that changed the model, where its measures are still to come; else 0."""
    last = next((record for record in reversed(history.rounds) if not record.skipped), None)
    return last.number if last is not None and _is_due(config, last) else 0


def _round(
    hub: Hub,
    pipeline: Pipeline[Any],
    config: Config,
    model: Arrays,
    number: int,
    observer: Observer,
    trainer: HeadTrainer | None,
    pairing: Pairing,
) -> tuple[Arrays, RoundRecord, dict[str, MetricValue] | None]:
    """Return the model, what is on record of the round, and metrics of an earlier one, where they came with it."""
    started = time.perf_counter()
    rounds, hub_loss = config.training.rounds, None
    if trainer is None:
        measure = (pairing.measures_of, "val") if pairing.measures_of else None
        trained = hub.train(number, rounds, model, lambda reply: observer.site_replied(number, reply), measure=measure)
    else:
        trained, hub_loss = trainer.train(number, rounds, model)
    record = RoundRecord(
        number=number, seconds=0, skipped=trained.skipped, sites=trained.sites, hub_loss=hub_loss, metrics={}
    )
    if _is_due(config, record) and not pairing.is_measured_later:
        measured = hub.evaluate(number, rounds, trained.model, "val")
        record = record.model_copy(update={"metrics": _finished(pipeline, measured, config.seed).pooled})
    before = None if trained.measured is None else _finished(pipeline, trained.measured, config.seed).pooled
    record = record.model_copy(update={"seconds": time.perf_counter() - started})
    return trained.model, record, before


def _finish(
    hub: Hub,
    pipeline: Pipeline[Any],
    config: Config,
    store: RunStore,
    model: Arrays,
    history: History,
    members: tuple[SiteFacts, ...],
    observer: Observer,
) -> RunMetrics:
    rounds = config.training.rounds
    store.write_model(model, model_card(config, members, history, None))
    measured = hub.finish(rounds, rounds, model, "test")
    finished = _finished(pipeline, measured, config.seed)
    metrics = RunMetrics(
        split="test", pooled=finished.pooled, sites=finished.sites, suppressed=measured.suppressed | finished.suppressed
    )
    store.write_model(model, model_card(config, members, history, metrics))
    store.write_privacy(release_record(config, members, history, is_finished=True))
    store.write_metrics(metrics)
    observer.finished(metrics)
    return metrics


def _finished(pipeline: Pipeline[Any], measured: Measured, seed: int) -> Finished:
    """Finish the measures; a site whose measures cannot be used is left out and named."""
    if not measured.measures:
        return Finished({}, {})
    try:
        return pipeline.finish(measured.measures, seed=seed)
    except (ReplyError, ShapeError):
        return _finished_without_bad_sites(pipeline, measured, seed)


def _finished_without_bad_sites(pipeline: Pipeline[Any], measured: Measured, seed: int) -> Finished:
    good, bad = {}, {}
    for site, arrays in measured.measures.items():
        try:
            pipeline.finish({site: arrays}, seed=seed)
            good[site] = arrays
        except (ReplyError, ShapeError) as error:
            bad[site] = f"refused: {getattr(error, 'reason', 'bad_measures')}"
    if not good:
        return Finished({}, {}, bad)
    try:
        finished = pipeline.finish(good, seed=seed)
    except (ReplyError, ShapeError):  # each can be used, all together cannot: which one is wrong is not known
        return Finished({}, {}, bad | dict.fromkeys(good, "refused: together"))
    return Finished(finished.pooled, finished.sites, bad)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    part = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if prefix == _MODEL and not part:
        raise RunFolderError("checkpoint.safetensors must hold a model; it does not. Run again without --resume.")
    return part
