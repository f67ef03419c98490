"""Two attackers that tell an attribute from features: a linear probe and a small network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medfl.attacks.feature_views import flattened, pooled
from medfl.attacks.pairs import Features, Floats
from medfl.attacks.statistics import auc
from medfl.errors import TooFewSubjectsError

_SHRINKAGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
_COMPONENTS, _HIDDEN = 128, 64
_EPOCHS, _PATIENCE, _BATCH = 150, 15, 256
_HELD_OUT, _TRIES = 0.25, 200

Model = Callable[[Features], Floats]
"""Features (m, ...) -> one score per class (m, K)."""


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """What the attacker has, or is tested on: features, the number of the subject, the number of the value."""

    features: Features
    subjects: NDArray[np.int64]
    values: NDArray[np.int64]

    def __getitem__(self, kept: NDArray[np.bool_]) -> "LabeledImages":
        """Return some of the images."""
        return LabeledImages(self.features[kept], self.subjects[kept], self.values[kept])

    def count(self, classes: int) -> NDArray[np.int64]:
        """Count subjects per class, (K,)."""
        return np.array([len(np.unique(self.subjects[self.values == one])) for one in range(classes)], dtype=np.int64)

    def units(self, scores: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Return mean scores (u, K) of each subject with one value, these values (u,) and the subjects (u,)."""
        codes = self.subjects * (int(self.values.max()) + 1) + self.values
        first, numbers, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)[1:]
        means = np.zeros((len(counts), scores.shape[1]))
        np.add.at(means, numbers, scores)
        return means / counts[:, None], self.values[first], self.subjects[first]


Fit = Callable[[LabeledImages, int, int], Model]


def fit_probe(images: LabeledImages, classes: int, seed: int) -> Model:
    """Ridge regression on indicators of the classes, subjects weighing the same."""
    held = held_out(images, classes, seed + 1)
    views: tuple[Callable[[Features], Features], ...] = (pooled,)
    if images.features.ndim > 2:
        views = (pooled, flattened)
    best, chosen = -1.0, (views[0], _SHRINKAGES[0])
    for view in views:
        for shrinkage, model in _ridges(images[~held], classes, view, _SHRINKAGES):
            area = float(np.mean(areas_of(model, images[held], classes)))
            if area > best:
                best, chosen = area, (view, shrinkage)
    ((_, final),) = _ridges(images, classes, chosen[0], (chosen[1],))
    return final


def _ridges(
    images: LabeledImages, classes: int, view: Callable[[Features], Features], shrinkages: tuple[float, ...]
) -> Iterator[tuple[float, Model]]:
    """Yield a model for each shrinkage, in units of the mean variance of the components."""
    project, spread = _components(view(images.features), None)
    inputs = project(view(images.features))
    weights = 1 / np.bincount(images.subjects)[images.subjects]
    targets = np.eye(classes)[images.values]
    targets -= weights @ targets / weights.sum()
    weighted = inputs.T * weights
    squares = weighted @ inputs
    for shrinkage in shrinkages:
        ridge = shrinkage * float(np.mean(spread**2)) * weights.sum() * np.eye(len(squares))
        slopes = np.linalg.solve(squares + ridge, weighted @ targets)
        yield shrinkage, _linear(project, view, slopes)


def _linear(project: Callable[[Features], Floats], view: Callable[[Features], Features], slopes: Floats) -> Model:
    return lambda new: project(view(new)) @ slopes


def _components(values: Features, most: int | None) -> tuple[Callable[[Features], Floats], Floats]:
    """Return a projection on principal components of standardized features, and their spreads; empty ones left out."""
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.maximum(scale, 1e-6 * scale.max() + 1e-30)
    centered = ((values - mean) / scale).astype(np.float64)
    wide = centered.shape[1] > len(centered)
    squares, vectors = np.linalg.eigh(centered @ centered.T if wide else centered.T @ centered)
    order = np.argsort(squares)[::-1][:most]
    order = order[: max(1, int((squares[order] > 1e-8 * squares[order[0]]).sum()))]
    size = np.sqrt(np.maximum(squares[order], 1e-30))
    basis = centered.T @ (vectors[:, order] / size) if wide else vectors[:, order]
    return lambda new: np.asarray((new - mean) / scale @ basis, dtype=np.float64), size / np.sqrt(len(values))


def fit_network(images: LabeledImages, classes: int, seed: int) -> Model:
    """One hidden layer on whitened, pooled features; held-out subjects end the training."""
    held = held_out(images, classes, seed + 1)
    seen = images[~held]
    project, spread = _components(pooled(seen.features), _COMPONENTS)

    def prepared(features: Features) -> Tensor:
        return torch.from_numpy(project(pooled(features)) / spread).float()

    inputs, targets = prepared(seen.features), functional.one_hot(torch.from_numpy(seen.values), classes).float()
    with torch.random.fork_rng(devices=[]):  # torch's own generator stays as it was
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(inputs.shape[1], _HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(_HIDDEN, classes)
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)

        @torch.no_grad()
        def model(features: Features) -> Floats:
            network.eval()
            return np.asarray(network(prepared(features)).double().numpy())

        best, waited, state = -1.0, 0, network.state_dict()
        for _ in range(_EPOCHS):
            network.train()
            order = torch.randperm(len(inputs))
            for batch in (order[start : start + _BATCH] for start in range(0, len(order), _BATCH)):
                optimizer.zero_grad()
                loss = functional.binary_cross_entropy_with_logits(network(inputs[batch]), targets[batch])
                torch.autograd.backward([loss])
                optimizer.step()
            area, waited = float(np.mean(areas_of(model, images[held], classes))), waited + 1
            if area > best:
                best, waited = area, 0
                state = {key: value.clone() for key, value in network.state_dict().items()}
            if waited == _PATIENCE or best == 1:
                break
        network.load_state_dict(state)
    return model


def held_out(images: LabeledImages, classes: int, seed: int) -> NDArray[np.bool_]:
    """Mark the images of a quarter of the subjects; every class has subjects on both sides."""
    rng, people = np.random.default_rng(seed), np.unique(images.subjects)
    for _ in range(_TRIES):
        chosen = rng.choice(people, max(2, round(_HELD_OUT * len(people))), replace=False)
        held = np.isin(images.subjects, chosen)
        if min(images[held].count(classes).min(), images[~held].count(classes).min()) > 0:
            return np.asarray(held)
    raise TooFewSubjectsError("The attacker needs more subjects of the rarest value to hold some out, found too few.")


def areas_of(model: Model, images: LabeledImages, classes: int) -> list[float]:
    """Return the area of each class against all others, over subjects."""
    means, values, _ = images.units(model(images.features))
    return [auc(means[values == one, one], means[values != one, one]) for one in range(classes)]
