"""Features and classes that a bottleneck is learned from: studies, or positions of maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.data.preparation import IGNORED
from pipelines.pipeline import class_count
from pipelines.protection import Cut, standardized

_POSITIONS = 100
"""Most positions of one map that directions are learned from, on a regular grid."""
_MOST_CLASSES = 128


@dataclass(frozen=True, eq=False)
class Samples:
    """What sums are made of.

    Attributes
    ----------
    features : ndarray of shape (n, C)
        In public units.
    labels : ndarray of shape (n,)
    subjects : list of str
        One per sample.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    subjects: list[str]


def sample_classes(config: Config) -> int:
    """Return the number of classes of samples.

    A study has its own class. A position of a map has the classes at the middles of its four quarters, together: a
    direction that tells where in the tile a border runs is one the task needs. Where that would be more than 128
    classes, the class in the middle of the tile has to do.
    """
    classes = class_count(config)
    return classes ** _quarters(classes) if config.task.kind == "segmentation" else classes


def study_samples(config: Config, cut: Cut, studies: Sequence[PreparedStudy], *, minimum_subjects: int) -> Samples:
    """Return one sample for every study, or a sample for every counted position of its map.

    Classes of positions that fewer than `minimum_subjects` subjects have are joined with those of an undivided tile.
    """
    if not studies:
        return Samples(np.zeros((0, cut.shape[0])), np.zeros(0, dtype=np.int64), [])
    features = standardized(cut, [study.image for study in studies])
    if config.task.kind == "segmentation":
        return _positions(features, studies, class_count(config), minimum_subjects)
    if features.ndim > 2:
        features = features.flatten(2).mean(dim=2)
    labels = np.array([int(study.target) for study in studies], dtype=np.int64)
    return Samples(features.double().numpy(), labels, [study.row.subject for study in studies])


def _positions(features: Tensor, studies: Sequence[PreparedStudy], classes: int, minimum_subjects: int) -> Samples:
    positions = features.shape[2] * features.shape[3]
    step = max(1, -(-positions // _POSITIONS))
    rows: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int64]] = []
    subjects: list[str] = []
    for one, study in zip(features, studies, strict=True):
        parts = _tile_classes(study.target, (features.shape[2], features.shape[3]), classes)
        counted = (parts != IGNORED).all(dim=0) & (torch.arange(positions) % step == 0)
        weights = classes ** torch.arange(len(parts))
        rows.append(one.flatten(1).T[counted].numpy())
        labels.append((parts[:, counted] * weights[:, None]).sum(dim=0).numpy())
        subjects += [study.row.subject] * int(counted.sum())
    joined = _without_rare(np.concatenate(labels), subjects, classes, minimum_subjects)
    return Samples(np.concatenate(rows).astype(np.float64), joined, subjects)


def _tile_classes(target: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """Return the classes (Q, H * W) at the middles of the quarters of each tile, or at its own middle."""
    height, width = target.shape[0] // size[0], target.shape[1] // size[1]
    tiles = target[: size[0] * height, : size[1] * width].long().view(size[0], height, size[1], width)
    shares = (0.25, 0.75) if _quarters(classes) == 4 else (0.5,)
    return torch.stack([tiles[:, int(height * y), :, int(width * x)].flatten() for y in shares for x in shares])


def _without_rare(
    labels: NDArray[np.int64], subjects: Sequence[str], classes: int, minimum_subjects: int
) -> NDArray[np.int64]:
    owners = np.asarray(subjects)
    joined = labels.copy()
    undivided = sum(classes**power for power in range(_quarters(classes)))
    for label in np.unique(labels):
        own = labels == label
        if len(np.unique(owners[own])) < minimum_subjects:
            joined[own] = (labels[own] % classes) * undivided
    return joined


def _quarters(classes: int) -> int:
    return 4 if classes**4 <= _MOST_CLASSES else 1
