"""What a task has to provide; a new task is one new file and one line in `pipelines.build`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.data.dataset import PreparedStudy
from medfl.data.preparation import Preparation
from medfl.imaging.volume import Volume
from medfl.networks.split_network import SplitNetwork
from medfl.results.metrics import MetricValue
from medfl.training.losses import Loss

Judged = TypeVar("Judged")
Arrays = dict[str, NDArray[Any]]
Case = dict[str, str | float | int | None]


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
    encoder : Module or None
        Frozen public network applied once to every image before anything is cached.
    network : SplitNetwork
        Takes prepared images, or the encoder's features.
    loss : callable
    patch : tuple of int or None
        Spatial size of training batches; None takes images as they are.
    device : device
    """

    preparation: Preparation
    encoder: nn.Module | None
    network: SplitNetwork
    loss: Loss
    patch: tuple[int, ...] | None
    device: torch.device

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
