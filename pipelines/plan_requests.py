"""From the settings of a run to the table of everything that a hub may ask of a site."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfl.config.privacy import BottleneckStage, ProjectionStage
from medfl.config.settings import Config
from medfl.federation.inbound import RequestRule, Requests
from medfl.federation.program import Option
from medfl.federation.records import CHOOSE, CONTROL, DESCRIBE, EVALUATE, FINISH, MODEL, RELEASE, SUMS, TRAIN
from medfl.governance.egress import ArrayRule, RecordRule
from medfl.privacy.directions import Directions
from medfl.privacy.saturation import Reach
from pipelines.build import build_pipeline, build_strategy
from pipelines.feature_program import CANDIDATE, KEYS_PER_SITE
from pipelines.minimization import Minimization
from pipelines.plan_egress import REPEATS, ROUND_REPEATS
from pipelines.protection import cut_of
from pipelines.samples import sample_classes
from pipelines.weights import as_arrays

ArrayMap = Mapping[str, NDArray[Any]]


def requests_of(config: Config, sites: tuple[str, ...]) -> Requests:
    """Return what every message of a run may hold.

    Parameters
    ----------
    config : Config
    sites : tuple of str
        Of the plan; with a key per site every one has a head of its own.

    Raises
    ------
    ConfigError
        If the network cannot be built.
    """
    return Requests(
        rules=tuple(_Table(config, sites).rules()), deadline_s=max(1.0, min(config.federation.round_timeout_s, 1e6))
    )


class _Table:
    def __init__(self, config: Config, sites: tuple[str, ...]) -> None:
        self.config, self.sites = config, sites
        self.pipeline = build_pipeline(config, torch.device("cpu"))
        self.features: tuple[int, ...] | None = None
        if config.sharing == "features" and self.pipeline.encoder is not None:
            self.features = cut_of(self.pipeline.encoder, config.preprocessing.size).shape

    def rules(self) -> Iterator[RequestRule]:
        rounds, every = self.config.training.rounds, self.config.evaluation.every
        yield RequestRule(kind=DESCRIBE, has_order=False, first=0, last=0, said_rounds=0, most=1 + ROUND_REPEATS)
        if self.features is not None:
            yield from self._sharing(self.features)
        shared, controls, options = self._networks()
        if self.features is None or self.config.head_at == "sites":
            records = [_record(MODEL, shared)]
            if any(controls):
                records.append(_record(CONTROL, controls))
            yield self._rule(TRAIN, records, options, last=rounds, said=rounds)
        apart = self.config.protection.keyed is not None and self.config.protection.keyed.custody == "site"
        model = self._of_each_site(shared) if apart else _record(MODEL, shared)
        if every and rounds >= every:
            yield self._rule(EVALUATE, [model], options, last=rounds, said=rounds, every=every, split="val")
        yield self._rule(FINISH, [model], options, first=rounds, last=rounds, said=rounds, split="test")

    def _sharing(self, shape: tuple[int, ...]) -> Iterator[RequestRule]:
        stage, channels = self.config.protection.minimize, shape[0]
        found: list[ArrayMap] = [{}]
        if isinstance(stage, BottleneckStage):
            yield self._rule(SUMS, [RecordRule(name=MODEL, arrays=())], {})
            if len(stage.directions) > 1:
                classes = sample_classes(self.config)
                weights = {f"{CANDIDATE}{k}/weights": np.zeros((classes, channels)) for k in stage.directions}
                biases = {f"{CANDIDATE}{k}/bias": np.zeros(classes) for k in stage.directions}
                yield self._rule(CHOOSE, [_record(MODEL, [weights | biases])], {})
            found = [_minimized(k, channels, saturates=stage.saturate is not None) for k in stage.directions]
        yield self._rule(RELEASE, [_record(MODEL, found)], {}, has_hub_key=True)

    def _networks(self) -> tuple[list[ArrayMap], list[ArrayMap], dict[str, Option]]:
        """Return shared and control arrays of every network that the run may have, and the strategy's options."""
        shared: list[ArrayMap] = []
        controls: list[ArrayMap] = []
        options: dict[str, Option] = {}
        for shape in self._shapes():
            if shape is not None:
                self.pipeline.cut_at(shape, seed=self.config.seed)
            strategy = build_strategy(self.config, self.pipeline.network, sites=len(self.sites))
            model = as_arrays(self.pipeline.network.shared_state())
            shared.append(strategy.shared(model))
            controls.append(strategy.control(model))
            options = strategy.instructions()
        return shared, controls, options

    def _shapes(self) -> list[tuple[int, ...] | None]:
        """Return shapes of protected features; only the run itself tells which directions are taken."""
        if self.features is None:
            return [None]
        stage, (channels, *spatial) = self.config.protection.minimize, self.features
        if isinstance(stage, ProjectionStage):
            return [(stage.directions, *spatial)]
        if isinstance(stage, BottleneckStage):
            return [(k, *spatial) for k in stage.directions]
        return [(channels, *spatial)]

    def _of_each_site(self, shared: list[ArrayMap]) -> RecordRule:
        """Return heads for each site; some sites may have released nothing, so not all need to be there."""
        variants: list[ArrayMap] = [
            {f"{KEYS_PER_SITE}{site}/{name}": array for site in self.sites for name, array in head.items()}
            for head in shared
        ]
        return _record(MODEL, variants).model_copy(update={"whole": False})

    def _rule(
        self,
        kind: str,
        records: list[RecordRule],
        options: Mapping[str, Option],
        *,
        first: int = 1,
        last: int = 1,
        said: int = 1,
        every: int = 1,
        split: str = "",
        has_hub_key: bool = False,
    ) -> RequestRule:
        return RequestRule(
            kind=kind,
            records=tuple(records),
            options=options,
            split=split,
            has_hub_key=has_hub_key,
            first=first,
            last=last,
            every=every,
            said_rounds=said,
            most=1 + REPEATS,
            max_bytes=sum(record.highest_bytes() for record in records),
        )


def _minimized(k: int, channels: int, *, saturates: bool) -> ArrayMap:
    reach = Reach(np.zeros(k), np.ones(k)) if saturates else None
    return Minimization(Directions(np.zeros(channels), np.zeros((k, channels))), reach).to_arrays()


def _record(name: str, variants: list[ArrayMap]) -> RecordRule:
    """Return one rule per array; an axis that differs between variants is free up to its longest."""
    rules = []
    for array, first in variants[0].items():
        axes = list(zip(*(variant[array].shape for variant in variants), strict=True))
        shape = tuple(axis[0] if len(set(axis)) == 1 else None for axis in axes)
        longest = max((max(axis) for axis in axes if len(set(axis)) > 1), default=0)
        rules.append(ArrayRule(name=array, shape=shape, dtype=first.dtype.name, longest=longest))
    return RecordRule(name=name, arrays=tuple(rules))
