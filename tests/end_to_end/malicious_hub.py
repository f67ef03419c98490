"""A hub's app that asks for what the approved plan does not have; a test puts it in place of `pipelines.server_app`."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from medfl.federation.hub import order_record
from medfl.federation.paired import pair
from medfl.federation.polling_grid import PollingGrid
from medfl.federation.records import CONTROL, DESCRIBE, EVALUATE, FINISH, MODEL, ORDER, TRAIN, to_record
from pipelines.build import build_pipeline, build_strategy
from pipelines.plan_egress import REPEATS
from pipelines.run_config import HubSettings, hub_settings
from pipelines.weights import as_arrays

app = ServerApp()
_WAIT_S = 120.0


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Send every attempt to one site, and write down what came back."""
    settings = hub_settings(context.run_config)
    deadline = time.monotonic() + _WAIT_S
    while not (nodes := list(grid.get_node_ids())) and time.monotonic() < deadline:
        time.sleep(0.2)
    answers = []
    for name, kind, content in attempts(settings):
        message = Message(content, nodes[0], kind, group_id=str(len(answers)))
        replies = list(PollingGrid(grid).send_and_receive([message], timeout=_WAIT_S))
        answers.append((name, replies[0].error.reason if replies[0].has_error() else "answered"))
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "answers.json").write_text(json.dumps(answers))


def attempts(settings: HubSettings) -> Iterator[tuple[str, str, RecordDict]]:
    """Yield (name, kind of message, content); what begins with "allowed" is as the plan has it."""
    config, rounds = settings.config, settings.config.training.rounds
    pipeline = build_pipeline(config, torch.device("cpu"))
    strategy = build_strategy(config, pipeline.network, sites=settings.sites)
    model = as_arrays(pipeline.network.shared_state())
    shared, control, options = strategy.shared(model), strategy.control(model), strategy.instructions()
    first = next(iter(shared))

    def content(arrays: dict[str, Any] | None = None, **changes: Any) -> RecordDict:
        found = RecordDict({MODEL: to_record(shared if arrays is None else arrays)})
        found[CONTROL] = to_record(control)
        found[ORDER] = ConfigRecord({**order_record(1, rounds, options), **changes})
        return found

    def judged(number: int, split: str) -> RecordDict:
        order = order_record(number, rounds, {**options, "split": split})
        return RecordDict({MODEL: to_record(shared), ORDER: order})

    yield "allowed: introduce yourself", DESCRIBE, RecordDict()
    yield "a kind of message that no plan has", "query.dump", RecordDict()
    yield "a question with an order", DESCRIBE, content()
    yield "one epoch more", TRAIN, content(epochs=99)
    yield "another learning rate", TRAIN, content(**{"learning-rate": 10.0})
    yield "privacy switched off", TRAIN, content(privacy="none")
    yield "more rounds", TRAIN, content(rounds=1000)
    yield "a round after the last", TRAIN, content(round=rounds + 1)
    yield "a round that is no number", TRAIN, content(round="1")
    yield "no order", TRAIN, RecordDict({MODEL: to_record(shared), CONTROL: to_record(control)})
    yield "one array more", TRAIN, content({**shared, "probe": np.ones(3, np.float32)})
    yield "one array less", TRAIN, content({name: array for name, array in shared.items() if name != first})
    yield "another shape", TRAIN, content({**shared, first: np.ones((1, *shared[first].shape), np.float32)})
    yield "another type", TRAIN, content({**shared, first: shared[first].astype(np.float64)})
    pickled = Array("float32", shared[first].shape, "numpy.ndarray", b"\x80\x04cposix\nsystem\n.")
    bad = content()
    bad[MODEL] = ArrayRecord({**to_record(shared), first: pickled})
    yield "a pickle", TRAIN, bad
    yield "one record more", TRAIN, RecordDict({**content(), "more": MetricRecord({"a": 1})})
    yield "the test subjects, too early", FINISH, judged(1, "test")
    yield "the training subjects, judged", FINISH, judged(rounds, "train")
    yield "the test subjects in place of the validation subjects", EVALUATE, judged(rounds, "test")
    hidden = order_record(rounds, rounds, {**options, "split": "train"})
    yield "the training subjects, judged beside an allowed training", TRAIN, pair(content(), hidden)
    probed = RecordDict(
        {**pair(content(), judged(rounds, "val").config_records[ORDER]), "evaluate-model": to_record(shared)}
    )
    yield "another model to be judged beside an allowed training", TRAIN, probed
    for number in range(1 + REPEATS):
        yield f"allowed: the plan's first round, time {number + 1}", TRAIN, content()
    yield "the same round once too often", TRAIN, content()
