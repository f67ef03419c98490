"""Decoders that an attacker learns from images of its own: released features in, images out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medfl.attacks.pairs import Features, Floats
from medfl.errors import ShapeError
from medfl.networks.heads import map_head

_COMPONENTS = 256
_WEIGHTS = np.logspace(-12, 3, 31)
_HIDDEN, _CHANNELS = 256, 32
_BATCH, _PATIENCE = 64, 8
_RATE, _DECAY = 1e-3, 1e-2
_LEAST_SPREAD = 1e-6

Decoder = Callable[[Features], Floats]
"""Features (m, ...) -> images (m, H, W)."""


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of rows.

    Attributes
    ----------
    mean : ndarray of shape (D,)
    axes : ndarray of shape (D, k)
        Orthonormal.
    spread : ndarray of shape (k,)
        Standard deviation along each axis, descending, > 0.
    """

    mean: Floats
    axes: Floats
    spread: Floats

    def scores(self, rows: Floats) -> Floats:
        """Return (n, k) for rows (n, D)."""
        return np.asarray((rows - self.mean) @ self.axes)

    def rows(self, scores: Floats) -> Floats:
        """Return (n, D) for scores (n, k)."""
        return np.asarray(scores @ self.axes.T + self.mean)


def principal_components(rows: Floats, most: int = _COMPONENTS) -> Components:
    """Find the axes along which rows differ most; axes that hold rounding errors only are left out.

    Parameters
    ----------
    rows : ndarray of shape (n, D)
        Two or more.
    most : int
        At least 1.

    Raises
    ------
    ShapeError
        If there is one row only, or all are equal: then there is no axis.
    """
    mean = rows.mean(axis=0)
    centered = rows - mean
    wide = centered.shape[1] > len(centered)
    squares, vectors = np.linalg.eigh(centered @ centered.T if wide else centered.T @ centered)
    order = np.argsort(squares)[::-1][:most]
    order = order[squares[order] > 1e-9 * max(float(squares.max()), 1e-300)]
    if len(rows) < 2 or not len(order):
        raise ShapeError(f"Principal components need two or more rows that differ; found {len(rows)} that do not.")
    size = np.sqrt(squares[order])
    axes = centered.T @ (vectors[:, order] / size) if wide else vectors[:, order]
    return Components(mean, np.asarray(axes), size / np.sqrt(len(rows)))


@dataclass(frozen=True, eq=False)
class OwnImages:
    """What the attacker has: images with their released features.

    Attributes
    ----------
    features : ndarray of shape (n, ...)
    images : ndarray of shape (n, H, W)
    """

    features: Features
    images: Floats

    def __getitem__(self, kept: NDArray[np.bool_]) -> "OwnImages":
        """Return some of the images."""
        return OwnImages(self.features[kept], self.images[kept])


def fit_linear(own: OwnImages, held: OwnImages, *, epochs: int, seed: int) -> Decoder:
    """Ridge regression from standardized features to the principal components of the attacker's images.

    The weight, of 31 from 1e-12 to 1e3 times the largest squared singular value, has the least error on held-out
    subjects; leaving out single images would let a subject's other images speak for it.

    Parameters
    ----------
    own, held : OwnImages
        To learn from, and of other subjects of the attacker.
    epochs, seed : int
        Of networks; ridge does without them.
    """
    del epochs, seed
    basis = principal_components(_rows(own.images))
    units = _units(_rows(own.features))
    u, s, vt = np.linalg.svd(units(own.features), full_matrices=False)
    turned, asked = u.T @ basis.scores(_rows(own.images)), units(held.features) @ vt.T
    wanted = basis.scores(_rows(held.images))

    def shrunk(weight: float) -> Floats:
        return np.asarray((s / (s**2 + weight))[:, None] * turned)

    weights = _WEIGHTS * max(float(s[0]) ** 2, 1e-300)
    errors = [float(((asked @ shrunk(weight) - wanted) ** 2).sum()) for weight in weights]
    slopes = vt.T @ shrunk(weights[int(np.argmin(errors))])
    return lambda new: basis.rows(units(new) @ slopes).reshape(len(new), *own.images.shape[1:])


def fit_network(own: OwnImages, held: OwnImages, *, epochs: int, seed: int) -> Decoder:
    """One hidden layer from whitened features to principal components; held-out subjects end the training.

    Parameters
    ----------
    own, held : OwnImages
        To learn from, and of other subjects of the attacker.
    epochs : int
        Most passes over the images, at least 1.
    seed : int
    """
    basis = principal_components(_rows(own.images))
    units = _units(_rows(own.features))
    inner = principal_components(units(own.features))
    weights = np.sqrt(basis.spread)  # between the error of pixels and that of standardized components

    def prepared(features: Features) -> Tensor:
        return torch.from_numpy(inner.scores(units(features)) / inner.spread).float()

    def target(images: Floats) -> Tensor:
        return torch.from_numpy(basis.scores(_rows(images)) / weights).float()

    def make() -> nn.Module:
        width, found = len(inner.spread), len(basis.spread)
        return nn.Sequential(nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Dropout(0.3), _silent(nn.Linear(_HIDDEN, found)))

    ends = target(own.images), target(held.images)
    network = _trained(make, prepared(own.features), ends[0], prepared(held.features), ends[1], epochs, seed)
    return lambda new: basis.rows(_applied(network, prepared(new)) * weights).reshape(len(new), *own.images.shape[1:])


def fit_convolutions(own: OwnImages, held: OwnImages, *, epochs: int, seed: int) -> Decoder:
    """Two 3x3 layers on maps, every position writing its own tile of the image; held-out subjects end the training.

    Parameters and return are those of `fit_network`; features are maps (n, C, h, w).

    Raises
    ------
    ShapeError
        If features are no maps.
    """
    if own.features.ndim != 4:
        raise ShapeError(f"A decoder of maps needs features (n, C, h, w), found {own.features.shape}.")
    size, mean = own.images.shape[1:], own.images.mean(axis=0)
    center = own.features.mean(axis=(0, 2, 3), keepdims=True)
    spread = own.features.std(axis=(0, 2, 3), keepdims=True)
    spread = np.maximum(spread, _LEAST_SPREAD * float(spread.max()) + 1e-30)
    scale = max(float((own.images - mean).std()), 1e-30)
    tile = max(-(-extent // side) for extent, side in zip(size, own.features.shape[2:], strict=True))

    def prepared(features: Features) -> Tensor:
        return torch.from_numpy((features - center) / spread).float()

    def target(images: Floats) -> Tensor:
        return torch.from_numpy((images - mean) / scale).float()

    def make() -> nn.Module:
        return _MapDecoder(own.features.shape[1], tile, (int(size[0]), int(size[1])))

    ends = target(own.images), target(held.images)
    network = _trained(make, prepared(own.features), ends[0], prepared(held.features), ends[1], epochs, seed)
    return lambda new: _applied(network, prepared(new)) * scale + mean


class _MapDecoder(nn.Module):
    """Maps (B, C, h, w) -> images (B, H, W)."""

    def __init__(self, channels: int, tile: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.head = map_head(features=channels, classes=1, hidden=_CHANNELS, stride=tile)
        for module in [one for one in self.head.modules() if isinstance(one, nn.Conv2d)][-1:]:
            _silent(module)
        self.size = list(size)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.interpolate(self.head(maps), size=self.size, mode="bilinear")[:, 0]


def _silent(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Return the layer with zeros, so that a network starts at the mean of the attacker's images."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _trained(
    make: Callable[[], nn.Module],
    inputs: Tensor,
    targets: Tensor,
    held_inputs: Tensor,
    held_targets: Tensor,
    epochs: int,
    seed: int,
) -> nn.Module:
    """Return the network as it was when its error on held-out images was least."""
    with torch.random.fork_rng(devices=[]):  # torch's own generator stays as it was
        torch.manual_seed(seed)
        network = make()
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)

        def error() -> float:
            return float(np.mean((_applied(network, held_inputs) - held_targets.numpy()) ** 2))

        least, waited, state = error(), 0, _copied(network)
        for _ in range(epochs):
            network.train()
            order = torch.randperm(len(inputs))
            for batch in (order[start : start + _BATCH] for start in range(0, len(order), _BATCH)):
                optimizer.zero_grad()
                torch.autograd.backward([functional.mse_loss(network(inputs[batch]), targets[batch])])
                optimizer.step()
            found, waited = error(), waited + 1
            if found < least:
                least, waited, state = found, 0, _copied(network)
            if waited == _PATIENCE:
                break
        network.load_state_dict(state)
    return network


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@torch.no_grad()
def _applied(network: nn.Module, inputs: Tensor) -> Floats:
    network.eval()
    parts = [network(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
    return np.asarray(torch.cat(parts).double().numpy())


def _rows(values: Features) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _units(rows: Floats) -> Callable[[Features], Floats]:
    """Return a map of features to rows in units of the attacker's own mean and spread."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.maximum(spread, _LEAST_SPREAD * float(spread.max()) + 1e-30)
    return lambda features: (_rows(features) - mean) / spread
