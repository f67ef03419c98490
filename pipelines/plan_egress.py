"""From the settings of a run to the table of everything that may leave a site.

Networks are built here, on the CPU and with weights that nobody uses, for the names and shapes of their arrays.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfl.config.privacy import BottleneckStage, GaussianStage, ProjectionStage
from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd, DpUpdates, NoTrainingPrivacy
from medfl.federation.program import SITE_NAME
from medfl.federation.records import (
    CHOOSE,
    CONTROL,
    DESCRIBE,
    EVALUATE,
    FINISH,
    MEASURES,
    MODEL,
    RELEASE,
    SEALED,
    SUMS,
    TRAIN,
)
from medfl.governance.egress import ArrayRule, Egress, FieldRule, Guarantee, KindRule, RecordRule
from medfl.privacy.class_sums import ClassSums
from medfl.privacy.directions import Directions
from medfl.privacy.envelope import EnvelopeKey, seal
from medfl.privacy.saturation import Reach
from pipelines.build import build_pipeline, build_strategy
from pipelines.measure_rules import measure_rules
from pipelines.minimization import Minimization
from pipelines.pipeline import Pipeline
from pipelines.protection import Cut, cut_of
from pipelines.samples import sample_classes
from pipelines.sealing import WRAPPED
from pipelines.weights import as_arrays

REPEATS, ROUND_REPEATS = 3, 10
"""How often a hub that was started again may ask once more for what it had asked for already; over all rounds."""
MOST_STUDIES = 100_000
"""Envelopes that a release may hold where the number of the site's studies is not known."""
SPLITS = ("train", "val", "test")

_CPU = torch.device("cpu")
_STUDY = "study-"  # what `pipelines.sealing` calls an envelope, before 16 random digits
_LONGEST_KEY = 4096
_LONGEST_NAME = 64
_SLACK = 64
_KEY_ID = r"([0-9a-f]{16})?"
_HOURS_100 = 360_000.0
_MOST_COUNTED = 10_000_000.0

ArrayMap = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SiteNumbers:
    """What a site adds to a plan: its own limits and counts.

    Attributes
    ----------
    name : str
        Of the site; empty for any.
    minimum_subjects : int
        The site's own; the stricter of this and the plan's holds.
    studies : int
        Most training studies that a release may hold.
    """

    name: str = ""
    minimum_subjects: int = 0
    studies: int = MOST_STUDIES


def egress_of(config: Config, site: SiteNumbers = SiteNumbers()) -> Egress:
    """Return what every reply of a run may hold.

    Parameters
    ----------
    config : Config
    site : SiteNumbers

    Raises
    ------
    ConfigError
        If the network cannot be built.
    """
    return Egress(kinds=tuple(_Table(config, site).kinds()))


class _Table:
    def __init__(self, config: Config, site: SiteNumbers) -> None:
        self.config, self.site = config, site
        self.minimum = max(config.evaluation.minimum_subjects, site.minimum_subjects)
        self.pipeline: Pipeline[Any] = build_pipeline(config, _CPU)
        self.cut: Cut | None = None
        if config.sharing == "features" and self.pipeline.encoder is not None:
            self.cut = cut_of(self.pipeline.encoder, config.preprocessing.size)

    def kinds(self) -> list[KindRule]:
        found = [self._describe()]
        stage = self.config.protection.minimize
        if self.cut is not None:
            if isinstance(stage, BottleneckStage):
                found.append(self._sums(stage, self.cut))
                if len(stage.directions) > 1:
                    found.append(self._choose(stage))
            found.append(self._release(self.cut))
        if self.cut is None or self.config.head_at == "sites":
            found.append(self._train())
        every = self.config.evaluation.every
        validations = self.config.training.rounds // every if every else 0
        if validations:
            found.append(self._measured(EVALUATE, "val", validations))
        found.append(self._measured(FINISH, "test", 1))
        return found

    def _describe(self) -> KindRule:
        counts = tuple(_count(f"{what}-{split}") for what in ("subjects", "studies") for split in SPLITS)
        pattern = re.escape(self.site.name) if self.site.name else SITE_NAME.pattern
        return KindRule(
            kind=DESCRIBE,
            about="the site's name and its numbers of subjects and studies",
            split=" and ".join(SPLITS),
            report=(FieldRule(name="site", kind="text", pattern=pattern), *counts),
            counted=tuple(f"subjects-{split}" for split in SPLITS),
            minimum_subjects=self.minimum,
            times=1 + repeats_of(DESCRIBE),
            max_bytes=0,
        )

    def _train(self) -> KindRule:
        networks = list(self._networks())
        records = [RecordRule(name=MODEL, arrays=_joined([shared for shared, _ in networks]))]
        controls = [control for _, control in networks]
        if any(controls):
            records.append(RecordRule(name=CONTROL, arrays=_joined(controls)))
        is_private = not isinstance(self.config.privacy, NoTrainingPrivacy)
        told = () if is_private else (_number("loss"), _seconds(required=False))
        about = "the model's weights after training on the site's own studies"
        if len(records) > 1:
            about += ", and the mean gradient of the round"
        if told:
            about += "; the mean training loss and the seconds it took"
        return self._rule(
            TRAIN,
            about,
            "train",
            records,
            report=(_count("subjects"), _count("studies"), *told),
            times=self.config.training.rounds,
            guarantee=self._of_training(),
        )

    def _networks(self) -> list[tuple[ArrayMap, ArrayMap]]:
        """Return shared and control arrays of every network that the run may train."""
        found: list[tuple[ArrayMap, ArrayMap]] = []
        for shape in self._shapes():
            if shape is not None:
                self.pipeline.cut_at(shape, seed=self.config.seed)
            network = self.pipeline.network
            strategy = build_strategy(self.config, network, sites=1)
            model = as_arrays(network.shared_state())
            found.append((strategy.shared(model), strategy.expected_control(model)))
        return found

    def _shapes(self) -> list[tuple[int, ...] | None]:
        """Return shapes of protected features; only the run itself tells which directions are taken."""
        if self.cut is None:
            return [None]
        stage = self.config.protection.minimize
        channels: tuple[int, ...] = (self.cut.shape[0],)
        if isinstance(stage, ProjectionStage):
            channels = (stage.directions,)
        elif isinstance(stage, BottleneckStage):
            channels = stage.directions
        return [(count, *self.cut.shape[1:]) for count in channels]

    def _measured(self, kind: str, split: str, times: int) -> KindRule:
        name = {"val": "validation", "test": "test"}[split]
        return self._rule(
            kind,
            f"sums over the {name} studies, from which the metrics of all sites together are computed",
            split,
            [RecordRule(name=MEASURES, arrays=measure_rules(self.config), whole=False)],
            report=self._reports([f"fewer than {self.config.evaluation.minimum_subjects} subjects"]),
            times=times,
        )

    def _sums(self, stage: BottleneckStage, cut: Cut) -> KindRule:
        classes, channels, held = sample_classes(self.config), cut.shape[0], [self._few_in_a_class()]
        if stage.learn == "site":
            k = stage.directions[0]
            reach = None if stage.saturate is None else Reach(np.zeros(k), np.ones(k))
            arrays: ArrayMap = Minimization(Directions(np.zeros(channels), np.zeros((k, channels))), reach).to_arrays()
            about = "directions of the features that tell the classes apart, learned at one site"
            held.append(f"{stage.site} learns the directions")
        else:
            arrays = ClassSums.zeros(classes, channels).to_arrays()
            about = "sums, cross products and numbers per class of the features of training studies"
        guarantee = None
        if stage.epsilon is not None:
            guarantee = Guarantee(epsilon=stage.epsilon, delta=stage.delta, unit="one subject", adjacency="replace")
        return self._rule(
            SUMS,
            about,
            "train",
            [RecordRule(name=MEASURES, arrays=_exact(arrays))],
            report=self._reports(held),
            times=1,
            guarantee=guarantee,
        )

    def _choose(self, stage: BottleneckStage) -> KindRule:
        classes = sample_classes(self.config)
        arrays = {"right": np.zeros((len(stage.directions), classes)), "counts": np.zeros(classes)}
        return self._rule(
            CHOOSE,
            "per class, how many validation studies there are and how many of them each candidate gets right",
            "val",
            [RecordRule(name=MEASURES, arrays=_exact(arrays))],
            report=self._reports([self._few_in_a_class(), "no validation studies"]),
            times=1,
        )

    def _release(self, cut: Cut) -> KindRule:
        to_hub = self.config.head_at == "hub"
        arrays: tuple[ArrayRule, ...] = ()
        about, guarantee, note = "only that features were protected; they stay at the site", None, ""
        if to_hub:
            target = "label" if self.config.task.kind == "classification" else "mask"
            arrays = (
                ArrayRule(name=WRAPPED, shape=(None,), dtype="uint8", longest=_LONGEST_KEY),
                ArrayRule(
                    name=_STUDY,
                    shape=(None,),
                    dtype="uint8",
                    longest=self._envelope_bytes(cut),
                    many=True,
                    most=self.site.studies,
                ),
            )
            about = f"for every training study its protected features and its {target}, sealed for the hub"
            note = f"one array for every training study; the {target}s are as they are, without noise"
            guarantee = self._of_features()
        return self._rule(
            RELEASE,
            about,
            "train",
            [RecordRule(name=SEALED, arrays=arrays, whole=False, note=note)],
            report=(
                _count("subjects"),
                _count("studies"),
                _seconds(required=True),
                FieldRule(name="key-id", kind="text", pattern=_KEY_ID),
            ),
            times=1,
            guarantee=guarantee,
        )

    def _envelope_bytes(self, cut: Cut) -> int:
        """Return the length of the longest envelope that one study can have."""
        target: NDArray[Any] = np.zeros((), dtype=np.int64)
        if self.config.task.kind == "segmentation":
            target = np.zeros(self.config.preprocessing.size or (), dtype=np.uint8)
        shape = max((one for one in self._shapes() if one is not None), key=lambda one: one[0])
        facts = {"encoder": cut.model, "protection": "0" * 64, "kid": "0" * 16, "study": "0" * 16}
        facts["site"] = "\x00" * _LONGEST_NAME  # six characters each in JSON, more than any letter takes
        arrays = {"features": np.zeros(shape, dtype=np.float32), "target": target}
        return len(seal(arrays, facts, EnvelopeKey.generate())) + _SLACK

    def _of_training(self) -> Guarantee | None:
        privacy = self.config.privacy
        if isinstance(privacy, DpSgd):
            adjacency = {"add-remove": "add or remove", "replace": "replace"}[privacy.adjacency]
            return Guarantee(epsilon=privacy.epsilon, delta=privacy.delta, unit="one subject", adjacency=adjacency)
        if isinstance(privacy, DpUpdates):
            return Guarantee(epsilon=privacy.epsilon, delta=privacy.delta, unit="one subject", adjacency="replace")
        return None

    def _of_features(self) -> Guarantee | None:
        noise = self.config.protection.noise
        if not isinstance(noise, GaussianStage):
            return None
        return Guarantee(epsilon=noise.epsilon, delta=noise.delta, unit="one subject", adjacency="replace")

    def _few_in_a_class(self) -> str:
        return f"a class has fewer than {self.config.evaluation.minimum_subjects} subjects"

    def _reports(self, held: list[str]) -> tuple[FieldRule, ...]:
        words = "|".join(re.escape(one) for one in held)
        return _count("subjects"), _count("studies"), FieldRule(name="suppressed", kind="text", pattern=f"({words})?")

    def _rule(
        self,
        kind: str,
        about: str,
        split: str,
        records: list[RecordRule],
        *,
        report: tuple[FieldRule, ...],
        times: int,
        guarantee: Guarantee | None = None,
    ) -> KindRule:
        return KindRule(
            kind=kind,
            about=about,
            split=split,
            records=tuple(records),
            report=report,
            counted=("subjects",),
            minimum_subjects=self.minimum,
            times=times + repeats_of(kind),
            max_bytes=sum(record.highest_bytes() for record in records),
            guarantee=guarantee,
        )


def repeats_of(kind: str) -> int:
    """Return how many replies of a kind may leave on top of those that are planned."""
    return ROUND_REPEATS if kind in (DESCRIBE, TRAIN, EVALUATE) else REPEATS


def _exact(arrays: ArrayMap) -> tuple[ArrayRule, ...]:
    return tuple(ArrayRule(name=name, shape=one.shape, dtype=one.dtype.name) for name, one in arrays.items())


def _joined(variants: list[ArrayMap]) -> tuple[ArrayRule, ...]:
    """Return one rule per array; an axis that differs between variants is free up to its longest."""
    rules = []
    for name, first in variants[0].items():
        shapes = [variant[name].shape for variant in variants]
        shape = tuple(axis[0] if len(set(axis)) == 1 else None for axis in zip(*shapes, strict=True))
        longest = max((max(axis) for axis in zip(*shapes, strict=True) if len(set(axis)) > 1), default=0)
        rules.append(ArrayRule(name=name, shape=shape, dtype=first.dtype.name, longest=longest))
    return tuple(rules)


def _count(name: str) -> FieldRule:
    return FieldRule(name=name, kind="int", highest=_MOST_COUNTED)


def _number(name: str) -> FieldRule:
    return FieldRule(name=name, kind="float", lowest=-1e12, required=False)


def _seconds(*, required: bool) -> FieldRule:
    return FieldRule(name="seconds", kind="float", highest=_HOURS_100, required=required)
