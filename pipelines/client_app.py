"""The site's app: the same handlers in one process, in Flower's simulation and behind a SuperNode."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from medfl.config.reading import parse_config
from medfl.data.dataset import prepare_all
from medfl.data.manifest import read_manifest
from medfl.errors import ConfigError
from medfl.federation import site
from medfl.federation.guard import guard
from medfl.federation.program import SiteProgram
from medfl.results.store import RunStore
from pipelines.build import build_pipeline, choose_device
from pipelines.site_program import PipelineProgram
from pipelines.sources import cache_folder, load_sites

FindProgram = Callable[[Context], SiteProgram]


def make_client_app(find_program: FindProgram) -> ClientApp:
    """Return the site's app.

    Parameters
    ----------
    find_program : callable
        Flower's context -> the site's program.
    """
    client_app = ClientApp(mods=[guard])

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

    return client_app


def program_of(context: Context) -> SiteProgram:
    """Return the program of the site this process stands for.

    A real site names itself and its manifest in the node configuration; in Flower's simulation the partition number
    picks one of the plan's simulated sites.
    """
    node, run = context.node_config, context.run_config
    if "manifest" in node:
        return _real_site(str(run["plan"]), str(node["site"]), str(node["manifest"]), str(node.get("state", "")))
    if "partition-id" in node:
        return _simulated_site(str(run["plan"]), int(str(node["partition-id"])))
    raise ConfigError('The node configuration must name site and manifest: --node-config \'site="a" manifest="..."\'')


@lru_cache(maxsize=4)
def _real_site(plan: str, name: str, manifest_path: str, state: str) -> PipelineProgram:
    config = parse_config(plan, source="plan")
    device = choose_device(config)
    pipeline = build_pipeline(config, device)
    manifest = read_manifest(Path(manifest_path))
    studies, _ = prepare_all(manifest, pipeline.preparation, cache=cache_folder(), encoder=pipeline.encoder)
    store = RunStore(Path(state)) if state else None
    return PipelineProgram(name, pipeline, studies, manifest=manifest, config=config, store=store, device=device)


@lru_cache(maxsize=64)
def _simulated_site(plan: str, number: int) -> PipelineProgram:
    config = parse_config(plan, source="plan")
    device = choose_device(config)
    pipeline = build_pipeline(config, device)
    manifest = load_sites(config)
    name = manifest.sites()[number]
    own = manifest.where(site=name)
    studies, _ = prepare_all(own, pipeline.preparation, cache=cache_folder(), encoder=pipeline.encoder)
    return PipelineProgram(name, pipeline, studies, manifest=own, config=config, store=None, device=device)


app = make_client_app(program_of)
