"""Segmentation: a class for every voxel, in 2-D and 3-D."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medfl.config.network import EfficientNetNetwork, UNetNetwork
from medfl.config.settings import Config
from medfl.config.task import Segmentation
from medfl.data.batches import padded
from medfl.data.dataset import PreparedStudy
from medfl.data.preparation import IGNORED, Preparation
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.evaluation.measures import flatten, unflatten
from medfl.evaluation.segmentation import CASE_FIELDS, SegmentationTask, measure_study, per_case
from medfl.evaluation.segmentation_metrics import finish
from medfl.evaluation.segmentation_sums import blocks_from_studies
from medfl.imaging.nifti import write_nifti
from medfl.imaging.picture import write_picture
from medfl.imaging.volume import Volume
from medfl.networks.backbones import EfficientNetLite0, unet
from medfl.networks.heads import map_head, voxel_head
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.protector import NoProtection
from medfl.training.losses import segmentation_loss, study_segmentation_loss
from pipelines.pipeline import Arrays, Case, Finished, Pipeline

WINDOW_OVERLAP = 0.25
"""Share of a window that its neighbor covers too."""

Judged = NDArray[np.float64]


class SegmentationPipeline(Pipeline[Judged]):
    """Dice and cross-entropy: MONAI's residual U-Net, or a decoder on maps of a frozen backbone.

    The U-Net sees patches in training, and whole images or a sliding window afterwards. Maps are decoded whole; their
    uncertainty is the entropy alone, since every changed copy of a picture would be another release.

    Parameters
    ----------
    config : Config
        Its task must be a segmentation.
    device : device
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        task, network = config.task, config.network
        if not isinstance(task, Segmentation):
            raise ConfigError(f"a segmentation pipeline needs task.kind 'segmentation', got {task.kind!r}.")
        self.task = task
        self._network = network
        self.device = device
        self._values = {index: value for index, value in enumerate(task.classes.values(), start=1)}
        self._measured = SegmentationTask(
            class_names=tuple(task.classes),
            tolerance_mm=task.surface_tolerance_mm,
            min_subjects=config.evaluation.minimum_subjects,
        )
        prepared = config.preprocessing
        self.preparation = Preparation(
            dimensions=task.dimensions,
            channels=prepared.channels,
            size=prepared.size,
            spacing_mm=prepared.spacing_mm,
            intensity=prepared.intensity,
            mask_values={value: index for index, value in self._values.items()},
            ignore_value=task.ignore_value,
        )
        augmentation = config.training.augmentation
        self._flip_axes = augmentation.flip_axes if augmentation.flip > 0 else ()
        if isinstance(network, UNetNetwork):
            self.encoder, self.patch = None, task.patch
            self._multiple = int(np.prod(network.strides))
            self.network = self._unet(network, prepared.channels).to(device)
        elif isinstance(network, EfficientNetNetwork):
            self.encoder = EfficientNetLite0(network.layer).to(device).eval().requires_grad_(False)
            self.patch = None
            self.cut_at(self.encoder.shape(prepared.size), seed=config.seed)
        else:
            raise ConfigError(f"network {network.kind!r} cannot segment.")
        self.loss, self.study_loss = segmentation_loss(), study_segmentation_loss()

    def feature_head(self, shape: tuple[int, ...]) -> nn.Module:
        """Return a decoder from maps (C, H, W) to masks of the picture's size."""
        network = self._network
        if not isinstance(network, EfficientNetNetwork):
            return super().feature_head(shape)
        stride = int(network.layer.removeprefix("stride"))
        return map_head(features=shape[0], classes=len(self.task.classes) + 1, hidden=network.hidden, stride=stride)

    def _unet(self, network: UNetNetwork, channels: int) -> SplitNetwork:
        dimensions = self.task.dimensions
        backbone = unet(
            dimensions=dimensions,
            in_channels=channels,
            features=network.features,
            channels=network.channels,
            strides=network.strides,
            residual_units=network.residual_units,
            norm=network.norm,
            dropout=network.dropout,
        )
        head = voxel_head(dimensions=dimensions, features=network.features, classes=len(self.task.classes) + 1)
        return SplitNetwork(backbone, NoProtection(), head, frozen_backbone=False)

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor], passes: int) -> list[tuple[Tensor, Tensor]]:
        """Return probabilities (K, *spatial) and their spread over changed copies, image by image."""
        self.network.eval()
        return [self._predict(image.to(self.device), passes) for image in images]

    def judge(self, study: PreparedStudy, probabilities: Tensor) -> Judged:
        """Return one row of numbers per class."""
        reference = study.target.numpy()
        predicted = probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()
        counted = reference != IGNORED
        return measure_study(
            np.where(counted, predicted, 0),
            np.where(counted, reference, 0),
            spacing_mm=study.spacing_mm,
            task=self._measured,
        )

    def measures(self, subjects: Sequence[str], judged: Sequence[Judged], *, minimum_subjects: int) -> Arrays:
        """Return sums over subjects."""
        if len(set(subjects)) < minimum_subjects:
            raise TooFewSubjectsError(f"Sums must describe at least {minimum_subjects} subjects, found fewer.")
        return dict(flatten(blocks_from_studies(subjects, np.stack(judged), self._measured)))

    def score(self, judged: Sequence[Judged]) -> float:
        """Return the Dice of all voxels together, averaged over classes that occur."""
        tp, fp, fn = np.stack(judged)[:, :, [CASE_FIELDS.index(name) for name in ("tp", "fp", "fn")]].sum(axis=0).T
        occurs = tp + fn > 0
        return float(np.mean(2 * tp[occurs] / (2 * tp + fp + fn)[occurs])) if occurs.any() else 0.0

    def finish(self, measures: Mapping[str, Arrays], *, seed: int) -> Finished:
        """Finish the sums of all sites together and of each alone."""
        sites = {site: unflatten(arrays, self._measured.schema()) for site, arrays in measures.items()}
        return Finished(
            pooled=finish(list(sites.values()), self._measured, seed=seed),
            sites={site: finish([blocks], self._measured, seed=seed) for site, blocks in sites.items()},
        )

    def case(self, judged: Judged, probabilities: Tensor, spread: Tensor) -> Case:
        """Return the study's metrics and its uncertainty."""
        return dict(per_case(judged, self._measured)) | _uncertainty(probabilities, spread)

    def summary(self, probabilities: Tensor, spread: Tensor, image: Volume) -> Case:
        """Return the volume of each structure in milliliters (pixels for pictures), and the uncertainty."""
        classes = probabilities.argmax(dim=0)
        whole = float(np.prod(image.spacing_mm)) * float(np.prod(image.spatial_shape))
        unit, scale = ("ml", 1000.0) if self.task.dimensions == 3 else ("px", 1.0)
        sizes: Case = {
            f"volume_{unit}/{name}": float((classes == index).float().mean()) * whole / scale
            for index, name in enumerate(self.task.classes, start=1)
        }
        return sizes | _uncertainty(probabilities, spread)

    def write_prediction(self, probabilities: Tensor, image: Volume | None, stem: Path) -> Path | None:
        """Write the mask with the file's own values and geometry, every voxel where it was."""
        if image is None:
            return None
        sized = probabilities
        if tuple(sized.shape[1:]) != image.spatial_shape:
            mode = "bilinear" if self.task.dimensions == 2 else "trilinear"
            sized = functional.interpolate(sized[None], size=list(image.spatial_shape), mode=mode)[0]
        classes = sized.argmax(dim=0).cpu().numpy()
        values = np.zeros(len(self._values) + 1, dtype=np.uint8)
        for index, value in self._values.items():
            values[index] = value
        mask = image.with_array(values[classes][None])
        path = stem.with_name(f"{stem.name}.png" if self.task.dimensions == 2 else f"{stem.name}.nii.gz")
        (write_picture if self.task.dimensions == 2 else write_nifti)(mask, path)
        return path

    def _predict(self, image: Tensor, passes: int) -> tuple[Tensor, Tensor]:
        probabilities = self._probabilities(image)
        if not passes or self.encoder is not None:
            return probabilities, torch.zeros_like(probabilities)
        copies = [probabilities]
        for axes, gain, offset in islice(self._changes(image.ndim), passes):
            copies.append(self._probabilities(image.flip(axes) * gain + offset).flip(axes))
        return probabilities, torch.stack(copies).std(dim=0, correction=0)

    def _changes(self, ndim: int) -> Iterator[tuple[list[int], float, float]]:
        """Yield flips the network was trained with, then small changes of contrast and brightness."""
        allowed = [axis + 1 for axis in self._flip_axes if axis + 1 < ndim]
        for count in range(1, len(allowed) + 1):
            for axes in combinations(allowed, count):
                yield list(axes), 1.0, 0.0
        for size in (0.1, 0.2, 0.3, 0.4):
            for gain, offset in ((1 + size, 0.0), (1 - size, 0.0), (1.0, size), (1.0, -size)):
                yield [], gain, offset

    def _probabilities(self, image: Tensor) -> Tensor:
        if self.encoder is not None:
            decoded: Tensor = self.network(image[None])[0]
            return decoded.softmax(dim=0)
        multiple = self._multiple
        if self.task.sliding_window:
            from monai.inferers.utils import sliding_window_inference

            tiled = sliding_window_inference(
                image[None], self.task.patch, 4, self.network, overlap=WINDOW_OVERLAP, mode="gaussian"
            )
            if not isinstance(tiled, Tensor):
                raise ShapeError("sliding-window inference must give one tensor.")
            return tiled[0].softmax(dim=0)
        size = tuple(-(-extent // multiple) * multiple for extent in image.shape[1:])
        if max(size) == multiple:  # instance norm needs more than one voxel at the bottom
            size = (2 * multiple, *size[1:])
        whole, inside = padded(image, size, float(image.min()))
        logits: Tensor = self.network(whole[None])[0]
        return logits[(slice(None), *inside)].softmax(dim=0)


def _uncertainty(probabilities: Tensor, spread: Tensor) -> Case:
    """Mean predictive entropy (nats) and spread where something was found; over the whole image when nothing was."""
    foreground = probabilities[0] < 0.5
    entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim=0)
    if not bool(foreground.any()):
        return {"entropy": float(entropy.mean()), "spread": float(spread.amax(dim=0).mean())}
    return {"entropy": float(entropy[foreground].mean()), "spread": float(spread.amax(dim=0)[foreground].mean())}
