"""Local rounds of DP-SGD: who is drawn, with which noise, and what every round counts for."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd
from medfl.data.augmentation import Augmentation
from medfl.data.batches import batch_of
from medfl.data.dataset import PreparedStudy
from medfl.errors import ConfigError
from medfl.privacy.canaries import CanaryOutcome, GradientCanaries
from medfl.privacy.composition import PoissonSampledGaussian, SelfComposed
from medfl.privacy.dp_guard import guard
from medfl.privacy.dp_sgd import NoiseReserve, PrivateStep, private_gradients
from medfl.privacy.gradient_choice import choose_method
from medfl.privacy.keystream import KEY_BYTES, Keystream
from medfl.privacy.noise_planning import planned_noise
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian
from medfl.privacy.subject_gradients import SubjectBatch, trainable
from medfl.privacy.subject_sampling import PoissonSubjects
from medfl.training.gradient_rules import GradientRule
from medfl.training.optimizers import make_optimizer
from medfl.training.schedule import learning_rate
from pipelines.fit import Stretch
from pipelines.pipeline import Pipeline, class_count

ADJACENCIES = {"add-remove": Adjacency.ADD_OR_REMOVE, "replace": Adjacency.REPLACE}
"""What settings call them."""
_SECRET_WORDS = 4
_TRIED = 8  # most studies that ways to gradients are timed with


@dataclass(frozen=True)
class PlannedSteps:
    """What every site does in every round; decided by the settings alone.

    Attributes
    ----------
    noise_multiplier, rate : float
        As in `SampledGaussian`.
    per_round : int
        Steps of one round.
    """

    noise_multiplier: float
    rate: float
    per_round: int

    def phase(self, rounds: int) -> SampledGaussian:
        """Return the steps of some rounds, as they are accounted for."""
        return SampledGaussian(self.noise_multiplier, self.rate, self.per_round * rounds)

    def event(self) -> SelfComposed:
        """Return one round, as a ledger books it."""
        return SelfComposed(PoissonSampledGaussian(self.rate, self.noise_multiplier), self.per_round)


def planned_steps(config: Config) -> PlannedSteps:
    """Return the steps whose noise keeps all rounds together within the settings' epsilon.

    Raises
    ------
    ConfigError
        If the settings have no `privacy` of kind "dp_sgd", or ask for what no noise can give.
    """
    settings = private_settings(config)
    per_round = max(1, round(config.training.local_epochs / settings.rate))
    return _planned(settings, per_round, config.training.rounds)


def private_settings(config: Config) -> DpSgd:
    """Return the settings of DP-SGD.

    Raises
    ------
    ConfigError
        If the run has none.
    """
    if not isinstance(config.privacy, DpSgd):
        raise ConfigError(f"privacy.kind must be 'dp_sgd' for private steps, found {config.privacy.kind!r}.")
    return config.privacy


class PrivateTraining:
    """One site's rounds of DP-SGD.

    Draws and noise come from keys that the operating system gives at every round; nothing of them is kept, and the
    run's seed decides nothing here. What is drawn for a study in a step depends on the step and the study alone, never
    on who else was drawn.

    Parameters
    ----------
    pipeline : Pipeline
    studies : sequence of PreparedStudy
        Training studies of the site, at least one.
    config : Config
        With `privacy` of kind "dp_sgd".
    device : device

    Raises
    ------
    ConfigError
        If the settings cannot be kept.
    """

    def __init__(
        self, pipeline: Pipeline[Any], studies: Sequence[PreparedStudy], config: Config, device: torch.device
    ) -> None:
        self.plan = planned_steps(config)
        self._pipeline, self._studies, self._config, self._device = pipeline, list(studies), config, device
        self._settings = private_settings(config)
        self._studies_of = _by_subject(self._studies)
        self._augmentation = Augmentation(**config.training.augmentation.model_dump())
        self._method = ""

    def fit(
        self, stretch: Stretch, *, rules: Sequence[GradientRule] = (), coins: bytes | None = None
    ) -> CanaryOutcome | None:
        """Train the pipeline's network as it stands, in place, for the steps of one round.

        Losses and numbers of drawn subjects are not returned: they would be releases without noise.

        Parameters
        ----------
        stretch : Stretch
            Which round of the run it is; epochs and learning rate are those of the settings.
        rules : sequence of GradientRule
            What the strategy asks for; applied to noised gradients.
        coins : bytes or None
            The run's secret key that decides which canaries are in it, the same in every round; None without canaries.

        Returns
        -------
        CanaryOutcome or None
            For the site alone.

        Raises
        ------
        PrivacyError
            If DP-SGD cannot be claimed for the network or the loss.
        """
        network, training, plan = self._pipeline.network, self._config.training, self.plan
        self.prepare()
        sampler = self._sampler()
        noise = NoiseReserve(_keystream())
        secret = tuple(int(word) for word in _keystream().words(_SECRET_WORDS))
        torch.manual_seed(secrets.randbits(63))  # dropout
        step = PrivateStep(self._settings.clip, plan.noise_multiplier, sampler.expected_subjects)
        optimizer = make_optimizer(
            self._settings.optimizer, network.parameters(), momentum=self._settings.momentum, weight_decay=0.0
        )
        canaries = None if coins is None else self._canaries(coins)
        network.train()
        for number in range(plan.per_round):
            batch = self._batch(sampler, (*secret, number))
            private_gradients(
                network,
                self._pipeline.study_loss,
                batch,
                step=step,
                source=noise,
                method=self._method,
                studies_at_once=training.batch_size,
                canaries=canaries,
            )
            for rule in rules:
                rule.apply(optimizer.parameters)
            progress = (stretch.number - 1 + number / plan.per_round) / stretch.rounds
            warmup = min(0.5, 1 / stretch.rounds)
            optimizer.step(
                learning_rate(self._settings.learning_rate, training.schedule, progress=progress, warmup=warmup)
            )
        return None if canaries is None else canaries.outcome()

    def prepare(self) -> None:
        """Guard the network and time the ways to its gradients, once, on random studies that tell nobody anything.

        Raises
        ------
        PrivacyError
            If DP-SGD cannot be claimed for the network or the loss; nothing was computed from studies.
        """
        if self._method:
            return
        pipeline = self._pipeline
        image, target = self._random(max(2, min(_TRIED, self._config.training.batch_size)))
        name = f"loss of {type(pipeline).__name__}"
        guard(pipeline.network, pipeline.study_loss, image, target, sampler=self._sampler(), loss_name=name)
        owner = torch.arange(len(image), device=self._device)
        self._method = choose_method(pipeline.network, pipeline.study_loss, SubjectBatch(image, target, owner))

    def _canaries(self, coins: bytes) -> GradientCanaries:
        sizes = [parameter.numel() for parameter in trainable(self._pipeline.network)]
        return GradientCanaries(
            self._settings.canaries,
            sizes,
            clip=self._settings.clip,
            rate=self.plan.rate,
            coins=Keystream(coins),
            source=_keystream(),
        )

    def _sampler(self) -> PoissonSubjects:
        return PoissonSubjects(
            self._studies_of, self.plan.rate, source=_keystream(), cap=self._settings.studies_per_subject
        )

    def _random(self, count: int) -> tuple[Tensor, Tensor]:
        """Return random studies of the shapes of training."""
        shown, like = batch_of(
            self._studies[:1],
            patch=self._pipeline.patch,
            augmentation=Augmentation(),
            rng=np.random.default_rng(0),
        )
        generator = torch.Generator().manual_seed(0)
        image = torch.randn((count, *shown.shape[1:]), generator=generator)
        target = torch.randint(0, class_count(self._config), (count, *like.shape[1:]), generator=generator)
        return image.to(self._device), target.to(self._device)

    def _batch(self, sampler: PoissonSubjects, secret: tuple[int, ...]) -> SubjectBatch:
        """Draw subjects; every study stands in the batch as many times as copies are asked for."""
        drawn = sampler.draw()
        if not len(drawn.studies):
            image, target = self._random(1)
            return SubjectBatch(image[:0], target[:0], torch.zeros(0, dtype=torch.int64, device=self._device))
        copies = self._settings.copies
        image, target = self._stacked(np.repeat(drawn.studies, copies), secret)
        owner = torch.from_numpy(np.repeat(drawn.owner, copies))
        return SubjectBatch(image.to(self._device), target.to(self._device), owner.to(self._device))

    def _stacked(self, studies: np.ndarray[Any, np.dtype[np.int64]], secret: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        pairs = list(self._changed(studies, secret))
        return torch.cat([image for image, _ in pairs]), torch.cat([target for _, target in pairs])

    def _changed(
        self, studies: np.ndarray[Any, np.dtype[np.int64]], secret: tuple[int, ...]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each study with crop and changes of its own; vectors have neither and are taken together."""
        patch, changes = self._pipeline.patch, self._augmentation
        if patch is None and self._studies[0].image.ndim == 1:
            chosen = [self._studies[number] for number in studies]
            yield batch_of(chosen, patch=None, augmentation=changes, rng=np.random.default_rng(0))
            return
        for place, number in enumerate(studies):
            rng = np.random.default_rng([*secret, int(number), place % self._settings.copies])
            yield batch_of([self._studies[number]], patch=patch, augmentation=changes, rng=rng)


def _by_subject(studies: Sequence[PreparedStudy]) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for number, study in enumerate(studies):
        found.setdefault(study.row.subject, []).append(number)
    return list(found.values())


@lru_cache(maxsize=64)
def _planned(settings: DpSgd, per_round: int, rounds: int) -> PlannedSteps:
    noise = planned_noise(
        settings.epsilon,
        settings.delta,
        rate=settings.rate,
        steps_per_round=per_round,
        rounds=rounds,
        adjacency=ADJACENCIES[settings.adjacency],
    )
    return PlannedSteps(noise, settings.rate, per_round)


def _keystream() -> Keystream:
    return Keystream(secrets.token_bytes(KEY_BYTES))
