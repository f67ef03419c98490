"""Classification: one class for every study, in 2-D and 3-D."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.config.network import DenseNetNetwork, EfficientNetNetwork
from medfl.config.settings import Config
from medfl.config.task import Classification
from medfl.data.dataset import PreparedStudy
from medfl.data.preparation import Preparation
from medfl.errors import ConfigError, TooFewSubjectsError
from medfl.evaluation.classification import ClassificationTask, per_case
from medfl.evaluation.classification_metrics import finish
from medfl.evaluation.classification_sums import sums_from_predictions
from medfl.evaluation.classification_wire import flatten_sums, unflatten_sums
from medfl.imaging.volume import Volume
from medfl.networks.backbones import EfficientNetLite0, densenet
from medfl.networks.heads import pooling_head, vector_head
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.protector import NoProtection
from medfl.training.losses import classification_loss
from pipelines.pipeline import Arrays, Case, Finished, Pipeline

_CHANGE = 0.05


@dataclass(frozen=True, eq=False)
class JudgedStudy:
    """Probabilities (K,) of one study, and its class."""

    probabilities: NDArray[np.float64]
    label: int


class ClassificationPipeline(Pipeline[JudgedStudy]):
    """A trainable MONAI DenseNet, or a linear head on frozen EfficientNet-lite0 features.

    With a frozen backbone every image is encoded once, before the cache; the network then starts at the features.

    Parameters
    ----------
    config : Config
        Its task must be a classification.
    device : device
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        task, network = config.task, config.network
        if not isinstance(task, Classification):
            raise ConfigError(f"a classification pipeline needs task.kind 'classification', got {task.kind!r}.")
        self.device = device
        self.task = task
        self.patch = None
        self._network = network
        self._measured = ClassificationTask(
            class_names=tuple(task.classes), min_subjects=config.evaluation.minimum_subjects
        )
        prepared = config.preprocessing
        self.preparation = Preparation(
            dimensions=task.dimensions,
            channels=prepared.channels,
            size=prepared.size,
            spacing_mm=prepared.spacing_mm,
            intensity=prepared.intensity,
            label_values={value: i for i, values in enumerate(task.classes.values()) for value in values},
        )
        backbone: nn.Module
        if isinstance(network, EfficientNetNetwork):
            self.encoder = EfficientNetLite0(network.layer).to(device).eval().requires_grad_(False)
            backbone, head = nn.Identity(), self.feature_head(self.encoder.shape(prepared.size))
        elif isinstance(network, DenseNetNetwork):
            self.encoder = None
            backbone, features = densenet(
                dimensions=task.dimensions,
                in_channels=prepared.channels,
                initial_features=network.initial_features,
                growth_rate=network.growth_rate,
                block_layers=network.block_layers,
            )
            head = vector_head(features=features, classes=len(task.classes), dropout=0.0)
        else:
            raise ConfigError(f"network {network.kind!r} cannot classify.")
        self.network = SplitNetwork(
            backbone, NoProtection(), head, frozen_backbone=isinstance(network, EfficientNetNetwork)
        ).to(device)
        self.loss = self.study_loss = classification_loss()

    def feature_head(self, shape: tuple[int, ...]) -> nn.Module:
        """Return a head on vectors (C,) or on maps (C, H, W)."""
        network = self._network
        if not isinstance(network, EfficientNetNetwork):
            return super().feature_head(shape)
        make = vector_head if len(shape) == 1 else pooling_head
        return make(features=shape[0], classes=len(self.task.classes), dropout=network.dropout, hidden=network.hidden)

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor], passes: int) -> list[tuple[Tensor, Tensor]]:
        """Return probabilities (K,) and their spread over slightly changed copies."""
        self.network.eval()
        results = []
        for image in images:
            batch = [image] + [image * (1 + _CHANGE * (-1) ** i * (1 + i // 2)) for i in range(passes)]
            probabilities = self.network(torch.stack(batch).to(self.device)).softmax(dim=1).cpu()
            results.append((probabilities[0], probabilities.std(dim=0, correction=0)))
        return results

    def judge(self, study: PreparedStudy, probabilities: Tensor) -> JudgedStudy:
        """Keep probabilities beside the class."""
        values = probabilities.double().numpy()
        return JudgedStudy(values / values.sum(), int(study.target))

    def measures(self, subjects: Sequence[str], judged: Sequence[JudgedStudy], *, minimum_subjects: int) -> Arrays:
        """Return counts, coarse histograms and sums."""
        if len(set(subjects)) < minimum_subjects:
            raise TooFewSubjectsError(f"Sums must describe at least {minimum_subjects} subjects, found fewer.")
        sums = sums_from_predictions(
            subjects,
            np.stack([one.probabilities for one in judged]),
            np.array([one.label for one in judged]),
            self._measured,
        )
        if sums is None:
            raise TooFewSubjectsError(f"No class has {minimum_subjects} subjects.")
        return dict(flatten_sums(sums, self._measured))

    def score(self, judged: Sequence[JudgedStudy]) -> float:
        """Return the mean log probability of the right class."""
        return float(np.mean([np.log(max(one.probabilities[one.label], 1e-12)) for one in judged]))

    def finish(self, measures: Mapping[str, Arrays], *, seed: int) -> Finished:
        """Finish the sums of all sites together and of each alone."""
        sites = {site: unflatten_sums(arrays, self._measured) for site, arrays in measures.items()}
        return Finished(
            pooled=finish(list(sites.values()), self._measured, seed=seed),
            sites={site: finish([sums], self._measured, seed=seed) for site, sums in sites.items()},
        )

    def case(self, judged: JudgedStudy, probabilities: Tensor, spread: Tensor) -> Case:
        """Return the study's probabilities, outcome and uncertainty."""
        return dict(per_case(judged.probabilities, judged.label, self._measured)) | _uncertainty(probabilities, spread)

    def summary(self, probabilities: Tensor, spread: Tensor, image: Volume) -> Case:
        """Return the probability of each class, and the uncertainty."""
        named: Case = {
            f"probability/{name}": float(value)
            for name, value in zip(self._measured.class_names, probabilities, strict=True)
        }
        named["predicted"] = self._measured.class_names[int(probabilities.argmax())]
        return named | _uncertainty(probabilities, spread)

    def write_prediction(self, probabilities: Tensor, image: Volume | None, stem: Path) -> Path | None:
        """Write nothing: the table of cases says it all."""
        return None


def _uncertainty(probabilities: Tensor, spread: Tensor) -> Case:
    entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum()
    return {"entropy": float(entropy), "spread": float(spread.max())}
