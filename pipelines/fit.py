"""Local epochs of one site, from settings to steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medfl.config.federation import Training
from medfl.data.augmentation import Augmentation
from medfl.data.batches import epoch_batches
from medfl.data.dataset import PreparedStudy
from medfl.training.gradient_rules import GradientRule
from medfl.training.loop import train_batches
from medfl.training.optimizers import make_optimizer
from medfl.training.schedule import learning_rate
from pipelines.pipeline import Pipeline


@dataclass(frozen=True)
class Stretch:
    """Which part of the whole run the epochs are.

    Attributes
    ----------
    number, rounds : int
        This round, from 1, and how many are planned; they place the epochs on the learning-rate schedule.
    epochs : int
        Epochs in each round.
    rate : float
        Highest learning rate.
    """

    number: int
    rounds: int
    epochs: int
    rate: float


def fit(
    pipeline: Pipeline[Any],
    studies: Sequence[PreparedStudy],
    training: Training,
    stretch: Stretch,
    *,
    device: torch.device,
    rng: np.random.Generator,
    rules: Sequence[GradientRule] = (),
) -> float:
    """Train the pipeline's network as it stands, in place.

    Parameters
    ----------
    pipeline : Pipeline
    studies : sequence of PreparedStudy
    training : Training
        Batch size, optimizer, schedule, augmentation.
    stretch : Stretch
    device : device
    rng : Generator
        Decides order, crops, augmentation and dropout.
    rules : sequence of GradientRule
        What the strategy asks for.

    Returns
    -------
    float
        Mean loss of the last epoch; 0 without epochs.
    """
    network = pipeline.network
    optimizer = make_optimizer(
        training.optimizer, network.parameters(), momentum=training.momentum, weight_decay=training.weight_decay
    )
    steps = -(-len(studies) // training.batch_size)
    total = stretch.rounds * stretch.epochs
    augmentation = Augmentation(**training.augmentation.model_dump())
    torch.manual_seed(int(rng.integers(2**31)))
    loss = 0.0
    for epoch in range(stretch.epochs):

        def rate_at(step: int, done: int = (stretch.number - 1) * stretch.epochs + epoch) -> float:
            progress = (done + step / max(1, steps)) / total
            return learning_rate(stretch.rate, training.schedule, progress=progress, warmup=min(0.5, 1 / total))

        batches = epoch_batches(
            studies, batch_size=training.batch_size, patch=pipeline.patch, augmentation=augmentation, rng=rng
        )
        loss = train_batches(
            network,
            batches,
            loss=pipeline.loss,
            optimizer=optimizer,
            learning_rate=rate_at,
            rules=rules,
            max_gradient_norm=training.max_gradient_norm,
            device=None if device.type == "cpu" else device,
        ).loss
    return loss
