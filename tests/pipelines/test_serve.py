import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from flwr.common.logger import FLOWER_LOGGER

from medfl.config.settings import Config
from medfl.errors import FederationError
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.program import EvaluateReply, Order, SiteFacts, SiteMemory, TrainReply
from medfl.results.store import RunStore
from pipelines.client_app import make_client_app
from pipelines.progress import Observer
from pipelines.server_app import serve
from pipelines.simulate import prepare
from pipelines.site_program import PipelineProgram

PLANTED = "Zzyzx^Quillfeather"
MakeConfig = Callable[..., Config]


@dataclass
class Meddling:
    """A site whose replies are changed before they leave."""

    program: PipelineProgram
    train_reply: Callable[[TrainReply], TrainReply] = replace
    measures_reply: Callable[[EvaluateReply], EvaluateReply] = replace

    def describe(self) -> SiteFacts:
        return self.program.describe()

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        return self.train_reply(self.program.train(order, memory))

    def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        return self.measures_reply(self.program.evaluate(order, memory))

    def finish(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        return self.measures_reply(self.program.finish(order, memory))


def raise_planted(reply: object) -> TrainReply:
    raise OSError(f"/data/{PLANTED}/scan.nii.gz")


def not_finite(reply: TrainReply) -> TrainReply:
    return replace(
        reply,
        model={
            name: np.full_like(array, np.nan) if array.dtype.kind == "f" else array
            for name, array in reply.model.items()
        },
    )


def grid_of(config: Config, **meddling: Callable[[PipelineProgram], Meddling]) -> LoopbackGrid:
    programs = prepare(config, None, Observer()).programs
    sites = {site: meddling.get(site.replace("-", "_"), Meddling)(program) for site, program in programs.items()}
    return LoopbackGrid({name: make_client_app(lambda context, site=site: site) for name, site in sites.items()}, {})


def test_a_run_in_which_no_round_succeeds_ends_with_an_error_and_a_readable_folder(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, store = make_config(), RunStore(tmp_path)
    grid = grid_of(
        config,
        site_1=lambda program: Meddling(program, train_reply=raise_planted),
        site_2=lambda program: Meddling(program, train_reply=not_finite),
    )
    FLOWER_LOGGER.addHandler(caplog.handler)
    try:
        with (
            caplog.at_level(logging.INFO),
            grid.open(),
            pytest.raises(FederationError, match="every round was skipped") as e,
        ):
            serve(grid, config, store, sites=2)
    finally:
        FLOWER_LOGGER.removeHandler(caplog.handler)
    history = store.read_history()
    assert [[site.refused for site in record.sites] for record in history.rounds] == [["site_error", "not_finite"]] * 2
    assert all(record.skipped and not record.metrics for record in history.rounds)
    checkpoint = store.read_checkpoint()
    assert checkpoint is not None
    assert checkpoint.round == 2
    assert all(np.isfinite(array).all() for array in checkpoint.arrays.values())
    assert store.read_settings()[0]
    assert not store.is_finished()
    assert PLANTED not in str(e.value)
    assert PLANTED not in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]


def test_one_bad_site_does_not_stop_the_others(make_config: MakeConfig, tmp_path: Path) -> None:
    config, store = make_config(), RunStore(tmp_path)
    grid = grid_of(config, site_2=lambda program: Meddling(program, train_reply=raise_planted))
    with grid.open():
        metrics = serve(grid, config, store, sites=2)
    assert metrics.sites.keys() == {"site-1", "site-2"}
    assert [[site.refused for site in record.sites] for record in store.read_history().rounds] == [
        ["", "site_error"]
    ] * 2


JUNK: dict[str, Callable[[EvaluateReply], EvaluateReply]] = {
    "nothing": lambda reply: replace(reply, measures={}),
    "unknown": lambda reply: replace(reply, measures={PLANTED: np.ones(3)}),
    "not finite": lambda reply: replace(reply, measures={n: a * np.nan for n, a in reply.measures.items()}),
    "negative": lambda reply: replace(reply, measures={n: -abs(a) - 1 for n, a in reply.measures.items()}),
    "wrong shape": lambda reply: replace(reply, measures={n: np.ones((2, 2, 2)) for n in reply.measures}),
    "no axes": lambda reply: replace(reply, measures={n: np.ones(()) for n in reply.measures}),
    "words": lambda reply: replace(reply, measures={n: np.array(["x"]) for n in reply.measures}),
    "complex": lambda reply: replace(reply, measures={n: a.astype(complex) for n, a in reply.measures.items()}),
    "empty arrays": lambda reply: replace(reply, measures={n: np.zeros(0) for n in reply.measures}),
    "too many": lambda reply: replace(reply, subjects=10**9),
}


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_measures_that_cannot_be_used_leave_the_others_and_are_named(
    make_config: MakeConfig, tmp_path: Path, task: str
) -> None:
    config = make_config("training.rounds=1", task=task)
    prepared = prepare(config, None, Observer())
    for kind, change in JUNK.items():
        sites = [Meddling(program) for program in prepared.programs.values()]
        sites[1].measures_reply = change
        names = [site.program.site for site in sites]
        apps = {n: make_client_app(lambda context, site=site: site) for n, site in zip(names, sites, strict=True)}
        grid = LoopbackGrid(apps, {})
        with grid.open():
            metrics = serve(grid, config, RunStore(tmp_path / kind), sites=2, pipeline=prepared.pipeline)
        assert metrics.sites.keys() == {"site-1"}, kind
        assert metrics.suppressed["site-2"].startswith("refused: "), kind
        assert metrics.pooled.keys() == metrics.sites["site-1"].keys(), kind
        assert PLANTED not in str(metrics)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_measures_that_would_overflow_together_are_refused_and_end_no_run(
    make_config: MakeConfig, tmp_path: Path, task: str
) -> None:
    config = make_config("training.rounds=1", task=task)

    def huge(reply: EvaluateReply) -> EvaluateReply:
        floats = {n: np.full_like(a, 1e308) if a.dtype.kind == "f" else a for n, a in reply.measures.items()}
        return replace(reply, measures=floats)

    prepared = prepare(config, None, Observer())
    sites = [Meddling(program, measures_reply=huge) for program in prepared.programs.values()]
    apps = {site.program.site: make_client_app(lambda context, site=site: site) for site in sites}
    grid = LoopbackGrid(apps, {})
    with grid.open():
        metrics = serve(grid, config, RunStore(tmp_path), sites=2, pipeline=prepared.pipeline)
    assert RunStore(tmp_path).is_finished()
    assert metrics.pooled == {}
    assert metrics.suppressed == {"site-1": "refused: too_great", "site-2": "refused: too_great"}


def test_scaffold_with_equal_sites_is_fedavg(make_config: MakeConfig, tmp_path: Path) -> None:
    models = {}
    for kind in ("fedavg", "scaffold"):
        config = make_config(
            "training={rounds: 3, batch_size: 64, optimizer: sgd, learning_rate: 0.05, schedule: constant}",
            "task.patch=[64, 64]",
            "evaluation.every=0",
            f"federation.strategy.kind={kind}",
        )
        prepared = prepare(config, None, Observer())
        first, second = prepared.programs.values()
        second.studies = first.studies
        sites = {program.site: make_client_app(lambda context, p=program: p) for program in (first, second)}
        grid = LoopbackGrid(sites, {})
        with grid.open():
            serve(grid, config, RunStore(tmp_path / kind), sites=2, pipeline=prepared.pipeline)
        models[kind] = RunStore(tmp_path / kind).read_model()
        moved = [np.abs(array - prepared.start[name]).max() for name, array in models[kind].items()]
        assert max(moved) > 0.01
    for name, array in models["fedavg"].items():
        np.testing.assert_allclose(models["scaffold"][name], array, rtol=1e-3, atol=1e-4, err_msg=name)
