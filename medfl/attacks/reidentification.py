"""Attackers that tell from features whether two images show one person, naive and re-trained.

Features are vectors (n, D) or maps (n, C, *spatial). An attacker fits on features of subjects it knows and returns a
`Scorer`; it never sees a test subject. Whatever it chooses, it chooses on held-out subjects of its own.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from medfl.attacks.pairs import Attacker, Features, Floats, Scorer, held_out_pairs, verification_pairs
from medfl.attacks.statistics import cluster_bootstrap_auc
from medfl.errors import ConfigError, ShapeError
from medfl.results.attack import AttackResult, Knowledge

_View = Callable[[Features], Features]
_COMPONENTS = 256
_EPOCHS, _PATIENCE = 150, 15


@dataclass(frozen=True)
class CosineAttacker:
    """Cosine of pooled features around the mean of the attacker's own."""

    name: ClassVar[str] = "cosine"
    knowledge: ClassVar[Knowledge] = "naive"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Take the mean; `subjects` are not used."""
        mean = pooled(features).mean(axis=0)
        return Scorer(lambda values: _unit(pooled(values) - mean), _dot)


@dataclass(frozen=True)
class EuclidAttacker:
    """Negative distance of pooled features."""

    name: ClassVar[str] = "euclid"
    knowledge: ClassVar[Knowledge] = "naive"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Learn nothing."""
        return Scorer(pooled, lambda first, second: -np.linalg.norm(first - second, axis=1))


@dataclass(frozen=True)
class LdaAttacker:
    """Whitened principal components turned to where subjects differ most from themselves.

    Pairs are scored by a weighted cosine or by the likelihood ratio of the two-covariance model (Ioffe 2006, "PLDA").
    Held-out subjects choose the number of components, the shrinkage of the covariance within subjects, unit length or
    not, equal scales or not, the score and, for maps, pooled or all positions; then all subjects are used.

    Parameters
    ----------
    seed : int
        Decides which subjects are held out.
    """

    seed: int = 0
    name: ClassVar[str] = "lda"
    knowledge: ClassVar[Knowledge] = "re-trained"

    def fit(self, features: Features, subjects: ArrayLike) -> Scorer:
        """Choose on held-out subjects, then fit on all."""
        names = np.asarray(subjects)
        held, pairs = held_out_pairs(names, np.random.default_rng(self.seed))
        best = -1.0
        chosen: tuple[_View, bool, tuple[int, float, bool, bool]] = (pooled, False, (_COMPONENTS, 0.1, False, False))
        views: tuple[_View, ...] = (pooled,) if features.ndim == 2 else (pooled, flattened)
        for view, scaled in product(views, (False, True)):
            values = view(features)
            if scaled and values.shape[1] <= _COMPONENTS:
                continue  # whitening all there is undoes any scale
            white = _whitening(values[~held], _COMPONENTS, scaled=scaled)
            seen, unseen = white(values[~held]), white(values[held])
            sizes = sorted({min(size, seen.shape[1]) for size in (32, 64, 128, _COMPONENTS)})
            for options in product(sizes, (0.01, 0.1, 0.5), (False, True), (False, True)):
                area = _lda(seen, names[~held], *options).area(unseen, pairs)
                if area > best:
                    best, chosen = area, (view, scaled, options)
        view, scaled, options = chosen
        white = _whitening(view(features), _COMPONENTS, scaled=scaled)
        inner = _lda(white(view(features)), names, *options)
        return Scorer(lambda values: inner.embed(white(view(values))), inner.compare)


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
        white = _whitening(values[~held], 64)
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
        prepare = _whitening(features[~held], _COMPONENTS // 2) if vectors else _standardizing(features[~held])
        seen, unseen = (torch.from_numpy(prepare(features[part])).float() for part in (~held, held))
        numbers = np.unique(names[~held], return_inverse=True)[1]
        members = [np.flatnonzero(numbers == n) for n in np.flatnonzero(np.bincount(numbers) > 1)]
        rng = np.random.default_rng(self.seed)
        with torch.random.fork_rng(devices=[]):  # torch's own generator stays as it was
            torch.manual_seed(self.seed)
            network = _VectorEmbedding(seen.shape[1]) if vectors else _MapEmbedding(seen.shape[1])

            def losses() -> Iterator[Tensor]:
                twos = torch.from_numpy(np.array([rng.choice(images, 2, replace=False) for images in members]))
                for batch in _batches(twos[torch.randperm(len(twos))], 128):
                    first, second = network(seen[batch.T.flatten()]).chunk(2)
                    similar = first @ second.T / 0.1
                    own = torch.arange(len(batch))
                    yield functional.cross_entropy(similar, own) + functional.cross_entropy(similar.T, own)

            judge = Scorer(lambda values: _applied(network, unseen), _dot)
            _train(network, losses, lambda: judge.area(features[held], held_pairs))
        return Scorer(lambda values: _applied(network, torch.from_numpy(prepare(values)).float()), _dot)


def default_attackers(seed: int) -> tuple[Attacker, ...]:
    """Return every attacker of this file, naive ones first."""
    return CosineAttacker(), EuclidAttacker(), LdaAttacker(seed), PairClassifierAttacker(seed), SiameseAttacker(seed)


def evaluate_reidentification(
    attacker_features: Features,
    attacker_subjects: ArrayLike,
    test_features: Features,
    test_subjects: ArrayLike,
    *,
    seed: int,
    draws: int = 1000,
    impostors: int = 20_000,
    strata: ArrayLike | None = None,
    attackers: Sequence[Attacker] | None = None,
) -> tuple[AttackResult, ...]:
    """Let every attacker learn on its own subjects, and judge it on strangers.

    Parameters
    ----------
    attacker_features : ndarray of shape (n, D) or (n, C, *spatial)
    attacker_subjects : array_like of shape (n,)
    test_features : ndarray of shape (m, ...)
        Of the same kind.
    test_subjects : array_like of shape (m,)
        None of them may be the attacker's.
    seed : int
        Equal seeds give equal results, but for `seconds`.
    draws : int
        Draws of subjects for the intervals.
    impostors : int
        Most impostor pairs of each set.
    strata : array_like of shape (m,) or None
        Of test images, see `verification_pairs`; gives a second result per attacker, with matched impostors.
    attackers : sequence of Attacker or None
        None takes `default_attackers(seed)`.

    Returns
    -------
    tuple of AttackResult

    Raises
    ------
    ConfigError
        If a test subject is one of the attacker's.
    ShapeError
        If features are not finite or do not fit together.
    TooFewSubjectsError
        If the attacker has fewer than six linked subjects or the test fewer than two.
    """
    known = _checked(attacker_features, attacker_subjects, attacker_features.shape[1:])
    strangers = _checked(test_features, test_subjects, attacker_features.shape[1:])
    shared = len(set(known.tolist()) & set(strangers.tolist()))
    if shared:
        raise ConfigError(f"Attacker and test must share no subject; {shared} are in both. Split by subject.")
    pairs = verification_pairs(strangers, np.random.default_rng(seed), impostors, strata)
    held, held_pairs = held_out_pairs(known, np.random.default_rng(seed + 1))
    results = []
    for attacker in default_attackers(seed) if attackers is None else attackers:
        began = time.perf_counter()
        validation = attacker.fit(attacker_features[~held], known[~held]).area(attacker_features[held], held_pairs)
        scores = attacker.fit(attacker_features, known).of_pairs(test_features, pairs)
        seconds = time.perf_counter() - began
        for matched in (False,) if strata is None else (False, True):
            kept = pairs.is_same | (pairs.is_matched == matched)
            first, second = strangers[pairs.first[kept]], strangers[pairs.second[kept]]
            found = cluster_bootstrap_auc(scores[kept], first, second, draws, np.random.default_rng(seed))
            results.append(
                AttackResult(
                    name=attacker.name,
                    knowledge=attacker.knowledge,
                    value=found.value,
                    ci_low=found.low,
                    ci_high=found.high,
                    subjects=found.subjects,
                    positives=found.genuine_pairs,
                    negatives=found.impostor_pairs,
                    impostors="matched" if matched else "random",
                    attacker_subjects=len(np.unique(known)),
                    validation=validation,
                    seconds=seconds,
                )
            )
    return tuple(results)


def pooled(features: Features) -> Floats:
    """Return vectors (n, D) as they are, maps (n, C, *spatial) as mean and spread per channel, (n, 2 C)."""
    if features.ndim == 2:
        return np.asarray(features, dtype=np.float64)
    flat = features.reshape(*features.shape[:2], -1)
    return np.concatenate([flat.mean(axis=2), flat.std(axis=2)], axis=1, dtype=np.float64)


def flattened(features: Features) -> Features:
    """Return all there is of each image, (n, D)."""
    return np.asarray(features, dtype=np.float32).reshape(len(features), -1)


def _checked(features: Features, subjects: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    names = np.asarray(subjects)
    if features.ndim < 2 or names.shape != features.shape[:1] or features.shape[1:] != shape:
        raise ShapeError(
            "features must be (n, D) or (n, C, *spatial), of one shape for attacker and test, with one subject per "
            f"image; found {features.shape} and subjects {names.shape}."
        )
    if not np.isfinite(features).all():
        raise ShapeError("features must be finite; found NaN or infinity.")
    return names


def _unit(vectors: Features) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float64)


def _dot(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", first, second), dtype=np.float64)


def _whitening(values: Features, components: int, *, scaled: bool = False) -> Callable[[Features], Floats]:
    """Fit principal components of unit variance, of equally scaled features if asked; empty directions are left out."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.maximum(spread, 1e-6 * spread.max() + 1e-30) if scaled else np.ones_like(spread)
    centered = (values - mean) / scale
    wide = values.shape[1] > len(values)
    squares, vectors = np.linalg.eigh((centered @ centered.T if wide else centered.T @ centered).astype(np.float64))
    order = np.argsort(squares)[::-1][:components]
    least = max(1e-10, 50 * float(np.finfo(values.dtype).eps)) * max(float(squares[order[0]]), 1e-30)
    order = order[: max(1, int((squares[order] > least).sum()))]
    size = np.sqrt(np.maximum(squares[order], least))
    basis = centered.T @ (vectors[:, order] / size) if wide else vectors[:, order]
    basis = basis * (np.sqrt(len(values)) / size)
    return lambda new: np.asarray((new - mean) / scale @ basis, dtype=np.float64)


def _standardizing(maps: Features) -> Callable[[Features], Features]:
    axes = (0, *range(2, maps.ndim))
    mean, spread = maps.mean(axis=axes, keepdims=True), maps.std(axis=axes, keepdims=True)
    return lambda new: (new - mean) / np.maximum(spread, 1e-6 * spread.max() + 1e-30)


def _lda(white: Floats, names: NDArray[Any], size: int, shrinkage: float, unit: bool, cosine: bool) -> Scorer:
    """Fit to the first `size` whitened components; with unit variance within subjects, `between` is what is left."""

    def lengths(new: Features) -> Features:
        return np.sqrt(size) * _unit(new[:, :size]) if unit else new[:, :size]

    values = lengths(white)
    numbers, counts = np.unique(names, return_inverse=True, return_counts=True)[1:]
    means = np.zeros((len(counts), size))
    np.add.at(means, numbers, values)
    apart = values - (means / counts[:, None])[numbers]
    within = apart.T @ apart / (len(values) - len(counts))
    within = (1 - shrinkage) * within + (shrinkage * np.trace(within) / size + 1e-12) * np.eye(size)
    variances, turned = np.linalg.eigh(within)
    turned = turned / np.sqrt(variances)
    between = np.maximum((values @ turned).var(axis=0) - 1, 1e-3)
    product = between / (2 * between + 1)
    if cosine:
        return Scorer(lambda new: _unit(lengths(new) @ (turned * np.sqrt(product))), _dot)
    square = ((between + 1) / (2 * between + 1) - 1 / (between + 1)) / 2
    return Scorer(lambda new: lengths(new) @ turned, lambda a, b: (a * b) @ product - (a * a + b * b) @ square)


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
