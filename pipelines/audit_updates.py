"""What sites of a run sent as weights, with the images that went into it and what an attacker knows of how."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

from medfl.config.federation import FedAvgStrategy, FedProxStrategy, Training
from medfl.config.network import UNetNetwork
from medfl.config.settings import Config
from medfl.data.batches import padded
from medfl.data.dataset import PreparedStudy
from medfl.errors import TooFewSubjectsError
from medfl.federation.program import Arrays
from medfl.federation.strategies.strategy import SiteUpdate, weighted_mean
from medfl.networks.split_network import SplitNetwork
from medfl.results.report import Budget
from medfl.training.losses import Loss
from medfl.training.schedule import learning_rate
from pipelines.audit_material import AuditedRun
from pipelines.build import build_pipeline, choose_device
from pipelines.custody import custody_beside
from pipelines.feature_program import FeatureProgram
from pipelines.protection import SiteProtection
from pipelines.site_program import SPLITS, PipelineProgram
from pipelines.weights import as_arrays

_LARGE_WINDOW = 2**14
_SHARE_OF_ATTACKER = 3
_MOST_OTHERS = 500

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Example:
    """One study as a training step takes it.

    Attributes
    ----------
    subject, site : str
    image : Tensor of shape (C, *spatial) or (F,)
        The middle of the image where training crops it.
    target : Tensor of shape (1, *spatial) or (), int64
    """

    subject: str
    site: str
    image: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class SentUpdate:
    """What one site sent back in one round.

    Attributes
    ----------
    site : str
    number : int
        The round.
    before, after : dict of str to Tensor
        Weights that the site was sent, and those it returned.
    steps : int
        Local optimizer steps between them.
    rate : float
        Their mean learning rate.
    optimizer : {"adamw", "sgd"}
    weight_decay : float
    members : tuple of Example
        One study of every subject that was trained on.
    """

    site: str
    number: int
    before: Weights
    after: Weights
    steps: int
    rate: float
    optimizer: Literal["adamw", "sgd"]
    weight_decay: float
    members: tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class UpdateMaterial:
    """Everything that inversion of updates needs.

    Attributes
    ----------
    network : SplitNetwork
        As sites train it.
    loss : callable
    training : Training
    start : dict of str to Tensor
        Weights that the run began with.
    members : tuple of Example
        One study of every subject that was trained on, site by site.
    updates : tuple of SentUpdate
    own : tuple of Example
        Of strangers to the run's training, the attacker's.
    others : tuple of Example
        Of further strangers, for galleries.
    is_image : bool
        Whether the network takes images, not features of a frozen backbone.
    first_round_only : bool
        Whether there were further rounds, and none of them is among the updates.
    """

    network: SplitNetwork
    loss: Loss
    training: Training
    start: Weights
    members: tuple[Example, ...]
    updates: tuple[SentUpdate, ...]
    own: tuple[Example, ...]
    others: tuple[Example, ...]
    is_image: bool
    first_round_only: bool

    @property
    def box(self) -> tuple[float, float]:
        """Lowest and highest value of the attacker's own images."""
        images = torch.stack([example.image for example in self.own])
        return float(images.min()), float(images.max())

    @property
    def prior(self) -> Tensor:
        """Mean of the attacker's own images."""
        return torch.stack([example.image for example in self.own]).mean(dim=0)

    @property
    def first_rate(self) -> float:
        """Learning rate of the run's first step."""
        return _rates(self.training, 1, 1)[0]


def update_material(run: AuditedRun, budget: Budget, seed: int) -> UpdateMaterial | None:
    """Read what sites sent, and find the weights that they were sent before.

    Round 1 began with weights that follow from the settings; later rounds with the mean of all releases of the round
    before, where the strategy is a mean and all of them were kept.

    Parameters
    ----------
    run : AuditedRun
    budget : str
        How many rounds are attacked, and whether large patches are taken whole.
    seed : int
        Of the division of strangers.

    Returns
    -------
    UpdateMaterial or None
        None where of no round both what sites sent and what they were sent is known.

    Raises
    ------
    KeyFileError
        If a key that was used is not beside the run folder.
    TooFewSubjectsError
        If strangers are too few.
    """
    fed = {site: _fed(run, site, program) for site, program in run.prepared.programs.items()}
    material = practice_material(run.config, fed, halved=budget != "full", seed=seed)
    start = {name: tensor.numpy() for name, tensor in material.start.items()}
    members = {site: tuple(m for m in material.members if m.site == site) for site in fed}
    updates = tuple(_updates(run, start, members, budget, is_cheap=not material.is_image))
    if not updates:
        return None
    first_only = run.config.training.rounds > 1 and all(update.number == 1 for update in updates)
    return replace(material, updates=updates, first_round_only=first_only)


def practice_material(
    config: Config, fed: Mapping[str, Mapping[str, Sequence[PreparedStudy]]], *, halved: bool, seed: int
) -> UpdateMaterial:
    """Return the material without anything that was sent: for updates that are made to practise on.

    Parameters
    ----------
    config : Config
    fed : mapping of str to (mapping of str to sequence of PreparedStudy)
        Site -> split -> studies as the network is fed with them.
    halved : bool
        Halve every extent of large patches.
    seed : int
        Of the division of strangers.

    Raises
    ------
    TooFewSubjectsError
        If strangers are too few.
    """
    pipeline = build_pipeline(config, choose_device(config))
    if config.sharing == "features":
        some = next(studies[0] for splits in fed.values() for studies in splits.values() if studies)
        pipeline.cut_at(tuple(some.image.shape), seed=config.seed)
    window = _window(config, pipeline.patch, halved=halved)
    members = [one for splits in fed.values() for one in _examples(splits["train"], window, set())]
    strangers = _examples(
        [study for splits in fed.values() for name in ("val", "test") for study in splits[name]],
        window,
        {study.row.subject for splits in fed.values() for study in splits["train"]},
    )
    order = torch.randperm(len(strangers), generator=torch.Generator().manual_seed(seed)).tolist()
    parted = max(2, len(strangers) // _SHARE_OF_ATTACKER)
    own, others = [strangers[i] for i in order[:parted]], [strangers[i] for i in order[parted:]]
    if not others:
        raise TooFewSubjectsError(
            f"Inversion of updates needs at least 3 subjects that were not trained on, found {len(strangers)}."
        )
    return UpdateMaterial(
        pipeline.network,
        pipeline.loss,
        config.training,
        _tensors(as_arrays(pipeline.network.shared_state())),
        tuple(members),
        (),
        tuple(own),
        tuple(others[:_MOST_OTHERS]),
        pipeline.encoder is None,
        False,
    )


def _split(program: PipelineProgram, split: str) -> list[PreparedStudy]:
    return program.clear(split) if isinstance(program, FeatureProgram) else program.studies[split]


def _fed(run: AuditedRun, site: str, program: PipelineProgram) -> Mapping[str, list[PreparedStudy]]:
    """Return one site's studies as its network is fed with them, under the site's own keys."""
    if not isinstance(program, FeatureProgram):
        return program.studies
    protection = SiteProtection(run.config, program.cut, run.minimized, custody_beside(run.store, create=False), site)
    fed = {}
    for split in SPLITS:
        studies = program.allowed(program.clear(split))
        images = protection.protect([study.image for study in studies], [study.row.study for study in studies])
        fed[split] = [replace(study, image=image) for study, image in zip(studies, images, strict=True)]
    return fed


def _window(config: Config, patch: tuple[int, ...] | None, *, halved: bool) -> tuple[int, ...] | None:
    """Return the size images are cropped to; a large one is halved where that is wanted."""
    network = config.network
    if patch is None or not halved or prod(patch) <= _LARGE_WINDOW or not isinstance(network, UNetNetwork):
        return patch
    multiple = 2 * prod(network.strides)
    return tuple(extent // 2 if extent % multiple == 0 else extent for extent in patch)


def _examples(
    studies: Sequence[PreparedStudy], window: tuple[int, ...] | None, left_out: set[str]
) -> tuple[Example, ...]:
    """Return the first study of every subject."""
    seen, found = set(left_out), []
    for study in studies:
        if study.row.subject not in seen:
            seen.add(study.row.subject)
            found.append(_example(study, window))
    return tuple(found)


def _example(study: PreparedStudy, window: tuple[int, ...] | None) -> Example:
    image, target = study.image, study.target
    if window is not None:
        image, target = padded(image, window, float(image.min()))[0], padded(target, window, 0)[0]
        starts = [(have - want) // 2 for have, want in zip(image.shape[1:], window, strict=True)]
        middle = tuple(slice(start, start + want) for start, want in zip(starts, window, strict=True))
        image, target = image[(slice(None), *middle)], target[middle]
    return Example(study.row.subject, study.row.site, image, (target[None] if target.ndim else target).long())


def _updates(
    run: AuditedRun, start: Arrays, members: dict[str, tuple[Example, ...]], budget: Budget, *, is_cheap: bool
) -> Iterator[SentUpdate]:
    training = run.config.training
    for number in _rounds(training.rounds, budget, is_cheap):
        before = _before(run, start, number)
        if before is None:
            continue
        for site, program in run.prepared.programs.items():
            after = _released(run, site, number)
            if after is None or len(members[site]) < 1:
                continue
            per_epoch = -(-len(_trained_on(program)) // training.batch_size)
            rates = _rates(training, number, per_epoch)
            yield SentUpdate(
                site,
                number,
                _tensors(before),
                _tensors(after),
                len(rates),
                sum(rates) / len(rates),
                training.optimizer,
                training.weight_decay,
                members[site],
            )


def _trained_on(program: PipelineProgram) -> list[PreparedStudy]:
    studies = _split(program, "train")
    return program.allowed(studies) if isinstance(program, FeatureProgram) else studies


def _rounds(rounds: int, budget: Budget, is_cheap: bool) -> list[int]:
    chosen = {1}
    if is_cheap or budget != "quick":
        chosen.add(rounds)
    if is_cheap or budget == "full":
        chosen.add((1 + rounds) // 2)
    return sorted(chosen)


def _before(run: AuditedRun, start: Arrays, number: int) -> Arrays | None:
    """Return the weights that sites were sent in a round; None where they cannot be known."""
    if number == 1:
        return start
    if not isinstance(run.config.federation.strategy, FedAvgStrategy | FedProxStrategy):
        return None
    record = run.store.read_history().rounds[number - 2]
    if record.skipped:
        return _before(run, start, number - 1)
    replies = []
    for site in sorted(record.sites, key=lambda one: one.site):
        if site.refused:
            continue
        released = _released(run, site.site, number - 1)
        if released is None:
            return None
        replies.append(SiteUpdate(site.site, released, {}, site.studies))
    return weighted_mean(replies)


def _released(run: AuditedRun, site: str, number: int) -> Arrays | None:
    """Return the weights that a site sent in a round, without further arrays of the strategy."""
    name = f"round-{number:04d}"
    if run.config.evaluation.keep_releases == "last":
        if number != run.config.training.rounds:
            return None
        name = "last-round"
    kept = run.store.read_release(site, name)
    return None if kept is None else {key: a for key, a in kept[0].items() if not key.startswith("control/")}


def _rates(training: Training, number: int, per_epoch: int) -> list[float]:
    """Return the learning rate of every local step of a round, as `pipelines.fit` takes it."""
    total = training.rounds * training.local_epochs
    return [
        learning_rate(
            training.learning_rate,
            training.schedule,
            progress=((number - 1) * training.local_epochs + epoch + step / per_epoch) / total,
            warmup=min(0.5, 1 / total),
        )
        for epoch in range(training.local_epochs)
        for step in range(per_epoch)
    ]


def _tensors(arrays: Arrays) -> Weights:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
