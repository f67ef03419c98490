"""Every message of a run passes the tables made from its settings, both ways, and nothing more does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from medfl.config.reading import load_config, parse_config
from medfl.config.settings import Config
from medfl.errors import EgressError
from medfl.federation.array_facts import reply_facts
from medfl.federation.inbound import RequestError, check_request
from medfl.federation.loopback import LoopbackGrid
from medfl.governance.egress import Egress, ReplyFacts, check
from pipelines import simulate
from pipelines.plan_egress import SiteNumbers, egress_of
from pipelines.plan_requests import requests_of

ROOT = Path(__file__).parents[2]
REST = """\
name: tiny
data:
  source: {kind: phantoms, dimensions: 2, subjects: 60, visits: 1, sites: 2}
  sites: {kind: column}
  split: {train: 0.5, validation: 0.2, test: 0.3}
evaluation: {minimum_subjects: 3, every: 1}
training: {rounds: 2, batch_size: 16, learning_rate: 0.01}
"""
MASKS = REST + (
    "task: {kind: segmentation, dimensions: 2, classes: {a: 1, b: 2}, patch: [16, 16]}\n"
    "network: {kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4, norm: batch}\n"
)
LABELS = REST + (
    "task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}\n"
    "network: {kind: densenet, initial_features: 4, growth_rate: 2, block_layers: [1, 1]}\n"
)
FEATURES = REST + (
    "sharing: features\n"
    "preprocessing: {size: [32, 32]}\n"
    "task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}\n"
    "network: {kind: efficientnet_lite0, hidden: 8}\n"
)
MAPS = (
    "task={kind: segmentation, dimensions: 2, classes: {a: 1, b: 2}, patch: [32, 32]}",
    "network={kind: efficientnet_lite0, layer: stride8, hidden: 8}",
)
BOTTLENECK = "protection.minimize={kind: bottleneck, directions: [1, 2, 4], components: 32}"
ONE = "protection.minimize={kind: bottleneck, directions: [2], components: 16%s}"
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        f"masks, {kind}": (MASKS, (f"federation.strategy.kind={kind}",))
        for kind in ("fedavg", "fedprox", "fedbn", "fedadam", "scaffold")
    },
    "masks, too few": (MASKS, ("evaluation.minimum_subjects=8",)),
    "masks, dp_sgd": (MASKS, ("privacy={kind: dp_sgd, epsilon: 8, delta: 0.001}", "network.norm=group")),
    "masks, dp_updates": (MASKS, ("privacy={kind: dp_updates, epsilon: 8, delta: 0.001}", "network.norm=instance")),
    "masks, dp_fedavg": (MASKS, ("privacy={kind: dp_fedavg, epsilon: 8, delta: 0.001}", "network.norm=instance")),
    "labels": (LABELS, ()),
    "labels, scaffold": (LABELS, ("federation.strategy.kind=scaffold",)),
    "features": (FEATURES, ()),
    "features, bottleneck and key": (FEATURES, (BOTTLENECK, "protection.keyed={kind: knt}")),
    "features, key per site": (FEATURES, (BOTTLENECK, "protection.keyed={kind: knt, custody: site}")),
    "features, heads at sites": (FEATURES, (BOTTLENECK, "features.head=sites")),
    "features, one site learns": (FEATURES, (ONE % ", learn: site, site: site-1, saturate: 0.5",)),
    "features, noised": (
        FEATURES,
        (ONE % ", epsilon: 8, delta: 0.001", "protection.noise={kind: gaussian, epsilon: 8, delta: 0.001}"),
    ),
    "features, projection": (FEATURES, ("protection.minimize={kind: projection, directions: 3}",)),
    "maps, heads at sites": (FEATURES, (*MAPS, ONE % "")),
    "maps to the hub": (FEATURES, (*MAPS, ONE % "", "features.head=hub")),
}
RunIt = Callable[[Config], "Seen"]


@dataclass
class Seen:
    """What went over the wire: requests with their kind, replies with their site."""

    requests: list[tuple[str, RecordDict]] = field(default_factory=list)
    replies: list[tuple[str, ReplyFacts]] = field(default_factory=list)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunIt:
    """Run a configuration in this process and return every message."""
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    seen = Seen()

    class WatchedGrid(LoopbackGrid):
        def _delivered(self, message: Message) -> str:
            seen.requests.append((message.metadata.message_type, message.content))
            number = super()._delivered(message)
            reply = self._replies[number]
            if reply.has_content():
                site = str(self.nodes[message.metadata.dst_node_id].context.node_config["site"])
                seen.replies.append((site, reply_facts(message.metadata.message_type, reply.content)))
            return number

    monkeypatch.setattr(simulate, "LoopbackGrid", WatchedGrid)

    def run(config: Config) -> Seen:
        simulate.simulate(config, tmp_path / "run")
        return seen

    return run


def check_all(config: Config, seen: list[tuple[str, ReplyFacts]]) -> None:
    tables = {site: egress_of(config, SiteNumbers(site, 0, 200)) for site in {site for site, _ in seen}}
    told = [(site, facts.kind) for site, facts in seen if facts.report.get("subjects") != 0]
    for site, facts in seen:
        check(facts, tables[site])
        for reason, changed in spoiled(facts, tables[site]):
            with pytest.raises(EgressError) as caught:
                check(changed, tables[site])
            assert caught.value.reason == reason
    for site, table in tables.items():
        assert {kind for where, kind in told if where == site} <= {rule.kind for rule in table.kinds}
        for rule in table.kinds:
            assert told.count((site, rule.kind)) <= rule.times
    assert {rule.kind for rule in next(iter(tables.values())).kinds} == {facts.kind for _, facts in seen}


def check_requests(config: Config, seen: Seen) -> None:
    requests = requests_of(config, tuple(sorted({site for site, _ in seen.replies})))
    assert {kind for kind, _ in seen.requests} == {rule.kind for rule in requests.rules}
    for kind, content in seen.requests:
        rule = requests.rule(kind)
        assert rule.first <= check_request(content, rule) <= rule.last
        if rule.has_order:
            more = RecordDict({**content, "order": ConfigRecord({**content.config_records["order"], "epochs": 99})})
            with pytest.raises(RequestError):
                check_request(more, rule)


def spoiled(facts: ReplyFacts, egress: Egress) -> Iterator[tuple[str, ReplyFacts]]:
    """Yield what must not leave, each with the reason of its refusal."""
    yield "unknown_kind", replace(facts, kind="query.everything")
    yield "unknown_record", replace(facts, records={**facts.records, "extra": ()})
    yield "unknown_record", replace(facts, others=("more",))
    yield "report", replace(facts, report={**facts.report, "note": "DOE^JANE"})
    yield "report", replace(facts, report={**facts.report, next(iter(facts.report)): "DOE^JANE"})
    rule = egress.rule(facts.kind)
    if facts.report.get("subjects"):
        yield "too_few_subjects", replace(facts, report={**facts.report, "subjects": rule.minimum_subjects - 1})
    for name, arrays in facts.records.items():
        if not arrays:
            continue
        first, *rest = arrays

        def put(*changed: Any, name: str = name) -> ReplyFacts:
            return replace(facts, records={**facts.records, name: changed})

        yield "unknown_array", put(*arrays, replace(first, name="subject-7", nbytes=0))
        yield "dtype", put(replace(first, dtype="complex64"), *rest)
        yield "shape", put(replace(first, shape=(*first.shape, 1)), *rest)
        yield "bytes", put(replace(first, nbytes=rule.max_bytes + 1), *rest)


@pytest.mark.parametrize("name", RUNS)
def test_every_reply_of_a_run_passes_and_nothing_more_does(name: str, run_it: RunIt) -> None:
    text, overrides = RUNS[name]
    config = parse_config(text, overrides=overrides)
    seen = run_it(config)
    check_all(config, seen.replies)
    check_requests(config, seen)


def test_every_reply_of_the_phantom_run_passes(run_it: RunIt) -> None:
    config = load_config(
        ROOT / "configs" / "phantom.yaml", ("training.rounds=2", "evaluation.every=2", "data.source.subjects=60")
    )
    seen = run_it(config)
    assert len({site for site, _ in seen.replies}) == 3
    check_all(config, seen.replies)
    check_requests(config, seen)
