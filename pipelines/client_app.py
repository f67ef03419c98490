"""The site's app: the same handlers in one process, in Flower's simulation and behind a SuperNode."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd, DpUpdates
from medfl.data.dataset import prepare_all
from medfl.data.manifest import Manifest
from medfl.errors import ConfigError
from medfl.federation import site
from medfl.federation.guard import answer_packed, guard
from medfl.federation.paired import answering_pairs
from medfl.federation.program import SiteProgram
from medfl.governance.exclude_list import ExcludeList
from medfl.governance.ledger_events import Account
from medfl.results.store import RunStore
from pipelines.bookkeeping import SiteBooks, simulated_books
from pipelines.build import build_pipeline, choose_device
from pipelines.custody import Custody, FolderCustody, MemoryCustody, custody_beside
from pipelines.feature_program import make_program
from pipelines.plan import make_plan
from pipelines.privacy_checks import check_privacy
from pipelines.run_config import OUT, PLAN, plan_text
from pipelines.site_program import PipelineProgram
from pipelines.sources import cache_folder, load_site, load_sites

_NO_KEYS = "keys"
_PURPOSE = "research"

FindProgram = Callable[[Context], SiteProgram]


def make_client_app(find_program: FindProgram) -> ClientApp:
    """Return the site's app.

    Parameters
    ----------
    find_program : callable
        Flower's context -> the site's program.
    """

    def ask(message: Message, context: Context) -> Message:
        return client_app(message, context)

    client_app = ClientApp(mods=[answer_packed, answering_pairs(ask), guard])

    @client_app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        return site.describe(message, find_program(context))

    @client_app.train()
    def train(message: Message, context: Context) -> Message:
        return site.train(message, context, find_program(context))

    @client_app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return site.evaluate(message, context, find_program(context))

    @client_app.query("finish")
    def finish(message: Message, context: Context) -> Message:
        return site.finish(message, context, find_program(context))

    @client_app.query("sums")
    def sums(message: Message, context: Context) -> Message:
        return site.sums(message, find_program(context))

    @client_app.query("choose")
    def choose(message: Message, context: Context) -> Message:
        return site.choose(message, context, find_program(context))

    @client_app.query("release")
    def release(message: Message, context: Context) -> Message:
        return site.release(message, context, find_program(context))

    return client_app


def program_of(context: Context) -> SiteProgram:
    """Return the program of the site this process stands for.

    A real site names itself, its manifest and optionally a state folder, a folder of keys and its ledger (with the data
    set and the purpose of the account, by default the site's name and "research") in the node configuration; each run
    gets a folder of its own in the state. Beside the state folder, which is `runs` in the folder of `medfl site init`,
    lies the list of subjects who withdrew; it is read anew for every message. In Flower's simulation the partition
    number picks one of the plan's simulated sites, and all of them write into the run folder, as in
    `pipelines.simulate`.

    Raises
    ------
    ConfigError
        If the node configuration names no site, or the simulation has more nodes than the plan has sites.
    """
    node, plan = context.node_config, plan_text(context.run_config)
    if "manifest" in node:
        return _real_site(
            plan,
            context.run_id,
            str(node["site"]),
            str(node["manifest"]),
            state=str(node.get("state", "")),
            keys=str(node.get("keys", "")),
            ledger=str(node.get("ledger", "")),
            data_set=str(node.get("data-set", "")),
            purpose=str(node.get("purpose", "")),
            without=ExcludeList(Path(str(node["state"])).parent).subjects() if "state" in node else frozenset(),
        )
    if "partition-id" in node:
        return _simulated_site(plan, int(str(node["partition-id"])), str(context.run_config.get(OUT, "")))
    raise ConfigError('The node configuration must name site and manifest: --node-config \'site="a" manifest="..."\'')


@lru_cache(maxsize=4)
def _real_site(
    plan: str,
    run_id: int,
    name: str,
    manifest: str,
    *,
    state: str,
    keys: str,
    ledger: str,
    data_set: str,
    purpose: str,
    without: frozenset[str],
) -> PipelineProgram:
    config = parse_config(plan, source=PLAN)
    own = load_site(Path(manifest), name, config, without=without)
    store = None
    if state:
        store = RunStore(Path(state) / f"{config.name}-{run_id}")
        store.write_settings(dump_config(config), make_plan(config, {name: own.digest()}))
    books = None
    if ledger:
        books = SiteBooks(Path(ledger), Account(data_set or name, purpose or _PURPOSE), f"{config.name} {run_id}")
    elif isinstance(config.privacy, DpSgd | DpUpdates):
        raise ConfigError("Private training needs the site's ledger: name it as ledger in the node configuration.")
    return _program(config, name, own, store, FolderCustody(Path(keys or _NO_KEYS), create=False), books)


@lru_cache(maxsize=64)
def _simulated_site(plan: str, number: int, out: str) -> PipelineProgram:
    config = parse_config(plan, source=PLAN)
    manifest = load_sites(config)
    sites = manifest.sites()
    if number >= len(sites):
        raise ConfigError(f"The plan has {len(sites)} simulated sites, node number {number} has none. Start as many.")
    store = RunStore(Path(out)) if out else None
    custody = MemoryCustody() if store is None else custody_beside(store, create=True)
    site = sites[number]
    books = None if store is None else simulated_books(config, site, store, None)
    return _program(config, site, manifest.where(site=site), store, custody, books)


def _program(
    config: Config, name: str, manifest: Manifest, store: RunStore | None, custody: Custody, books: SiteBooks | None
) -> PipelineProgram:
    device = choose_device(config)
    pipeline = build_pipeline(config, device)
    studies, _ = prepare_all(manifest, pipeline.preparation, cache=cache_folder(), encoder=pipeline.encoder)
    program = make_program(
        name,
        pipeline,
        studies,
        manifest=manifest,
        config=config,
        store=store,
        device=device,
        custody=custody,
        books=books,
    )
    check_privacy(config, {name: program})
    return program


app = make_client_app(program_of)
