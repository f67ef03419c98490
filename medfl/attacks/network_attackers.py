"""Attackers that train a small network on pairs of images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from medfl.attacks.feature_views import dot, pooled, standardizing, whitening
from medfl.attacks.pairs import Features, Floats, Scorer, held_out_pairs, verification_pairs
from medfl.results.attack import Knowledge

_COMPONENTS = 128
_EPOCHS, _PATIENCE = 150, 15


@dataclass(frozen=True)
class PairClassifierAttacker:
    """Small network on ``[|a - b|, a * b]`` of whitened, pooled features.

    Parameters
    ----------
    seed : int
        Of held-out subjects, pairs, first weights and batches.
    """

    seed: int = 0
    name: ClassVar[str] = "pair classifier"
    knowledge: ClassVar[Knowledge] = "re-trained"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Train on genuine and impostor pairs, both kinds weighing the same; held-out subjects end the training."""
        names, values = np.asarray(subjects), pooled(features)
        held, held_pairs = held_out_pairs(names, np.random.default_rng(self.seed))
        white = whitening(values[~held], 64)
        seen, rng = white(values[~held]), np.random.default_rng(self.seed)
        pairs = verification_pairs(names[~held], rng, 4 * len(seen))
        inputs = _combined(seen[pairs.first], seen[pairs.second])
        targets = torch.from_numpy(pairs.is_same).float()
        balance = (1 - targets).sum() / targets.sum()
        with torch.random.fork_rng(devices=[]):  # torch's own generator stays as it was
            torch.manual_seed(self.seed)
            network = nn.Sequential(nn.Linear(inputs.shape[1], 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
            scorer = Scorer(lambda new: white(pooled(new)), lambda a, b: _applied(network, _combined(a, b))[:, 0])

            def losses() -> Iterator[Tensor]:
                for batch in _batches(torch.randperm(len(inputs)), 512):
                    logits = network(inputs[batch]).squeeze(1)
                    yield functional.binary_cross_entropy_with_logits(logits, targets[batch], pos_weight=balance)

            _train(network, losses, lambda: scorer.area(values[held], held_pairs))
        return scorer


@dataclass(frozen=True)
class SiameseAttacker:
    """One embedding for both images, trained so that a subject's images lie closest (InfoNCE, van den Oord 2018).

    Vectors are whitened and embedded by a linear map plus a small network, maps by a small convolutional network.

    Parameters
    ----------
    seed : int
        Of held-out subjects, first weights and batches.
    """

    seed: int = 0
    name: ClassVar[str] = "siamese"
    knowledge: ClassVar[Knowledge] = "re-trained"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Train on two images per subject and batch; held-out subjects end the training."""
        names = np.asarray(subjects)
        held, held_pairs = held_out_pairs(names, np.random.default_rng(self.seed))
        vectors = features.ndim == 2
        prepare = whitening(features[~held], _COMPONENTS) if vectors else standardizing(features[~held])
        seen, unseen = (torch.from_numpy(prepare(features[part])).float() for part in (~held, held))
        numbers = np.unique(names[~held], return_inverse=True)[1]
        counts = np.bincount(numbers)
        starts = (np.cumsum(counts) - counts)[counts > 1]
        rng = np.random.default_rng(self.seed)
        with torch.random.fork_rng(devices=[]):  # torch's own generator stays as it was
            torch.manual_seed(self.seed)
            network = _VectorEmbedding(seen.shape[1]) if vectors else _MapEmbedding(seen.shape[1])

            def losses() -> Iterator[Tensor]:
                drawn = np.lexsort((rng.random(len(numbers)), numbers))  # by subject, in random order
                twos = torch.from_numpy(np.column_stack([drawn[starts], drawn[starts + 1]]))
                for batch in _batches(twos[torch.randperm(len(twos))], 128):
                    first, second = network(seen[batch.T.flatten()]).chunk(2)
                    similar = first @ second.T / 0.1
                    own = torch.arange(len(batch))
                    yield functional.cross_entropy(similar, own) + functional.cross_entropy(similar.T, own)

            judge = Scorer(lambda values: _applied(network, unseen), dot)
            _train(network, losses, lambda: judge.area(features[held], held_pairs))
        return Scorer(lambda values: _applied(network, torch.from_numpy(prepare(values)).float()), dot)


def _combined(first: Floats, second: Floats) -> Tensor:
    return torch.from_numpy(np.concatenate([np.abs(first - second), first * second], axis=1)).float()


class _VectorEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 64)
        self.bent = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 64))

    def forward(self, vectors: Tensor) -> Tensor:
        return functional.normalize(self.linear(vectors) + self.bent(vectors))


class _MapEmbedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(channels, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        self.last = nn.Linear(64, 64)

    def forward(self, maps: Tensor) -> Tensor:
        planes = maps.flatten(3) if maps.ndim == 5 else maps  # depth stays an axis of its own
        small = functional.adaptive_avg_pool2d(planes, (min(16, planes.shape[2]), min(16, planes.shape[3])))
        local = self.local(small).flatten(2)
        return functional.normalize(self.last(torch.cat([local.mean(dim=2), local.std(dim=2, correction=0)], dim=1)))


def _batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


@torch.no_grad()
def _applied(network: nn.Module, inputs: Tensor) -> Floats:
    network.eval()
    return np.concatenate([network(part).double().numpy() for part in _batches(inputs, 2048)])


def _train(network: nn.Module, losses: Callable[[], Iterator[Tensor]], judge: Callable[[], float]) -> None:
    """Train until the area on held-out subjects stops rising, and keep the best weights."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
    best, waited, state = -1.0, 0, network.state_dict()
    for _ in range(_EPOCHS):
        network.train()
        for loss in losses():
            optimizer.zero_grad()
            torch.autograd.backward([loss])
            optimizer.step()
        area = judge()
        waited += 1
        if area > best:
            best, waited = area, 0
            state = {name: value.clone() for name, value in network.state_dict().items()}
        if waited == _PATIENCE or best == 1:
            break
    network.load_state_dict(state)
