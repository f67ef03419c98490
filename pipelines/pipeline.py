"""What a task has to provide; a new task is one new file and one line in `pipelines.build`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.data.preparation import Preparation
from medfl.errors import ConfigError
from medfl.imaging.volume import Volume
from medfl.networks.backbones import EfficientNetLite0
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.protector import NoProtection
from medfl.results.metrics import MetricValue
from medfl.training.losses import Loss

Judged = TypeVar("Judged")
Arrays = dict[str, NDArray[Any]]
Case = dict[str, str | float | int | None]


def class_count(config: Config) -> int:
    """Return the number of classes a prediction tells apart; in masks the background is one."""
    return len(config.task.classes) + (config.task.kind == "segmentation")


@dataclass(frozen=True)
class Finished:
    """Metrics finished from additive measures: over all sites together, and site by site."""

    pooled: dict[str, MetricValue]
    sites: dict[str, dict[str, MetricValue]]
    suppressed: dict[str, str] = field(default_factory=dict)


class Pipeline(ABC, Generic[Judged]):
    """One task: how studies are prepared, predicted and judged.

    `Judged` is what one study's prediction came to; it never leaves the site.

    Attributes
    ----------
    preparation : Preparation
    encoder : EfficientNetLite0 or None
        Frozen public network applied once to every image before anything is cached.
    network : SplitNetwork
        Takes prepared images, or the encoder's features.
    loss : callable
    study_loss : callable
        The same as a mean over studies of what each study loses, for gradients of subjects.
    patch : tuple of int or None
        Spatial size of training batches; None takes images as they are.
    device : device
    """

    preparation: Preparation
    encoder: EfficientNetLite0 | None
    network: SplitNetwork
    loss: Loss
    study_loss: Loss
    patch: tuple[int, ...] | None
    device: torch.device
    _cut: tuple[int, ...] | None = None

    def cut_at(self, shape: tuple[int, ...], *, seed: int) -> None:
        """Make the network start at protected features of this shape; does nothing where it does already.

        Parameters
        ----------
        shape : tuple of int
            (C,) or (C, *spatial) of one study's features.
        seed : int
            Decides the new head's weights, and nothing else does.
        """
        if self._cut == shape:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = self.feature_head(shape)
        self.network = SplitNetwork(nn.Identity(), NoProtection(), head, frozen_backbone=True).to(self.device)
        self._cut = shape

    def feature_head(self, shape: tuple[int, ...]) -> nn.Module:
        """Return a head on features of this shape.

        Raises
        ------
        ConfigError
            If the task's network has no frozen backbone to be cut behind.
        """
        raise ConfigError("This network has no frozen backbone; features cannot be shared.")

    @abstractmethod
    def predict(self, images: Sequence[Tensor], passes: int) -> list[tuple[Tensor, Tensor]]:
        """Return for each prepared image the class probabilities and their spread.

        Parameters
        ----------
        images : sequence of Tensor
            (C, *spatial) each, or (F,).
        passes : int
            Changed copies of the image (flips it was trained with, else small changes of contrast) that the spread is
            taken over; the probabilities are always those of the image itself.

        Returns
        -------
        list of (Tensor, Tensor)
            Probabilities (K, *spatial) or (K,), and the standard deviation over the copies, same shape, zeros when
            there is one.
        """

    @abstractmethod
    def judge(self, study: PreparedStudy, probabilities: Tensor) -> Judged:
        """Compare one prediction with its reference."""

    @abstractmethod
    def measures(self, subjects: Sequence[str], judged: Sequence[Judged], *, minimum_subjects: int) -> Arrays:
        """Return the additive measures that leave the site.

        Raises
        ------
        TooFewSubjectsError
            If they would describe fewer subjects than `minimum_subjects`.
        """

    @abstractmethod
    def score(self, judged: Sequence[Judged]) -> float:
        """Return one number for choosing between models at the site; more is better."""

    @abstractmethod
    def finish(self, measures: Mapping[str, Arrays], *, seed: int) -> Finished:
        """Turn the measures of all sites into metrics with intervals.

        Raises
        ------
        ReplyError
            If a site's measures cannot be used.
        """

    @abstractmethod
    def case(self, judged: Judged, probabilities: Tensor, spread: Tensor) -> Case:
        """Return the metrics and the uncertainty of one study for the site's own table."""

    @abstractmethod
    def summary(self, probabilities: Tensor, spread: Tensor, image: Volume) -> Case:
        """Return what a prediction without a reference says, for a table."""

    @abstractmethod
    def write_prediction(self, probabilities: Tensor, image: Volume | None, stem: Path) -> Path | None:
        """Write one prediction beside `stem` and return its path; None when the table of cases says it all."""
