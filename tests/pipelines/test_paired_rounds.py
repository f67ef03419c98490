"""Measures that travel with the next round's training are those of messages of their own."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import Message

from medfl.config.settings import Config
from medfl.errors import DataError
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.program import EvaluateReply, Order, SiteMemory, TrainReply
from medfl.federation.records import EVALUATE, TRAIN
from medfl.results.history import RoundRecord
from medfl.results.store import RunStore
from pipelines.client_app import make_client_app
from pipelines.compare import with_strategy
from pipelines.progress import Observer
from pipelines.server_app import serve
from pipelines.simulate import prepare
from pipelines.site_program import PipelineProgram
from tests.pipelines.conftest import MakeConfig

STRATEGIES = ["fedavg", "fedprox", "fedbn", "fedadam", "scaffold"]


class Counting(LoopbackGrid):
    """Counts messages by kind, is cut off before a round, and brings no reply of another."""

    cut_before = silent = 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver everything."""
        sent = list(messages)
        if any(one.metadata.message_type == TRAIN and int(one.metadata.group_id) == self.cut_before for one in sent):
            raise ConnectionError("cut off")
        self.sent = getattr(self, "sent", Counter[str]()) + Counter(one.metadata.message_type for one in sent)
        if any(one.metadata.message_type == TRAIN and int(one.metadata.group_id) == self.silent for one in sent):
            return ()
        return super().send_and_receive(sent, timeout=timeout)


class Program:
    """A site that fails on purpose."""

    def __init__(self, program: PipelineProgram, fails: Callable[[str, int], bool]) -> None:
        self._program, self._fails = program, fails
        self.describe, self.finish = program.describe, program.finish

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        """Train, or fail."""
        if self._fails(TRAIN, order.round):
            raise DataError("gone")
        return self._program.train(order, memory)

    def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Measure, or fail."""
        if self._fails(EVALUATE, order.round):
            raise DataError("gone")
        return self._program.evaluate(order, memory)


def grid_of(config: Config, fails: Callable[[str, int], bool] = lambda kind, round: False) -> Counting:
    programs = prepare(config, None, Observer()).programs
    sites = dict(zip(programs, (Program(programs[name], fails) for name in programs), strict=True))
    first = next(iter(sites))
    sites = {name: one if name == first else Program(programs[name], lambda *_: False) for name, one in sites.items()}
    return Counting({name: make_client_app(lambda context, one=one: one) for name, one in sites.items()}, {})


def rounds_of(store: RunStore) -> list[RoundRecord]:
    return [
        replaced.model_copy(update={"sites": tuple(one.model_copy(update={"seconds": 0.0}) for one in replaced.sites)})
        for replaced in (record.model_copy(update={"seconds": 0.0}) for record in store.read_history().rounds)
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("every", [1, 2])
def test_a_run_with_paired_messages_comes_to_the_same_in_fewer_of_them(
    make_config: MakeConfig, tmp_path: Path, strategy: str, every: int
) -> None:
    config = with_strategy(make_config("training.rounds=3", f"evaluation.every={every}"), strategy)
    found, sent = {}, {}
    for paired in (False, True):
        grid, store = grid_of(config), RunStore(tmp_path / str(paired))
        with grid.open():
            metrics = serve(grid, config, store, sites=2, paired=paired)
        found[paired] = (
            rounds_of(store),
            metrics,
            store.read_privacy(),
            (store.folder / "model.safetensors").read_bytes(),
        )
        sent[paired] = grid.sent
    assert found[True] == found[False]
    measured = [bool(record.metrics) for record in found[True][0]]
    assert measured == [number % every == 0 for number in (1, 2, 3)]
    assert (sent[False][EVALUATE], sent[True][EVALUATE]) == (2 * (3 // every), 2 * (every == 1))
    assert sent[True][TRAIN] == sent[False][TRAIN] == 6


@pytest.mark.parametrize("kind", [TRAIN, EVALUATE])
def test_a_site_that_fails_at_one_question_still_answers_the_other(
    make_config: MakeConfig, tmp_path: Path, kind: str
) -> None:
    config = make_config("training.rounds=2", "evaluation.every=1")
    failing = 2 if kind == TRAIN else 1
    found = {}
    for paired in (False, True):
        grid, store = grid_of(config, lambda *asked: asked == (kind, failing)), RunStore(tmp_path / str(paired))
        with grid.open():
            serve(grid, config, store, sites=2, paired=paired)
        found[paired] = rounds_of(store)
    assert found[True] == found[False]
    refused = [one.refused for record in found[True] for one in record.sites]
    assert refused.count("site_error") == (1 if kind == TRAIN else 0)


@pytest.mark.parametrize("cut_before", [2, 3])
def test_a_run_that_was_cut_off_before_its_measures_came_gets_them_when_it_goes_on(
    make_config: MakeConfig, tmp_path: Path, cut_before: int
) -> None:
    config = make_config("training.rounds=3", "evaluation.every=1")
    whole, cut = RunStore(tmp_path / "whole"), RunStore(tmp_path / "cut")
    grid = grid_of(config)
    with grid.open():
        serve(grid, config, whole, sites=2, paired=True)
    grid = grid_of(config)
    grid.cut_before = cut_before
    with grid.open(), pytest.raises(ConnectionError):
        serve(grid, config, cut, sites=2, paired=True)
    assert not cut.read_history().rounds[-1].metrics
    grid = grid_of(config)
    with grid.open():
        serve(grid, config, cut, sites=2, resume=True, paired=True)
    assert rounds_of(cut) == rounds_of(whole)


def test_a_round_that_was_skipped_is_not_measured(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("training.rounds=3", "evaluation.every=1", "federation.minimum_replies=2")
    grid, store = grid_of(config, lambda *asked: asked == (TRAIN, 2)), RunStore(tmp_path)
    with grid.open():
        serve(grid, config, store, sites=2, paired=True)
    assert [(bool(record.skipped), bool(record.metrics)) for record in rounds_of(store)] == [
        (False, True),
        (True, False),
        (False, True),
    ]


def test_measures_that_nobody_answered_are_asked_for_with_the_next_training(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("training.rounds=3", "evaluation.every=1")
    found = {}
    for paired in (False, True):
        grid, store = grid_of(config), RunStore(tmp_path / str(paired))
        grid.silent = 2
        with grid.open():
            serve(grid, config, store, sites=2, paired=paired)
        found[paired] = rounds_of(store)
    assert found[True] == found[False]
    assert [bool(record.metrics) for record in found[True]] == [True, False, True]
