"""Features as plain vectors: pooled, flattened, rooted, whitened."""

from collections.abc import Callable

import numpy as np

from medfl.attacks.pairs import Features, Floats

View = Callable[[Features], Features]
"""Features (n, ...) -> vectors (n, D)."""


def pooled(features: Features) -> Floats:
    """Return vectors (n, D) as they are, maps (n, C, *spatial) as mean and spread per channel, (n, 2 C)."""
    if features.ndim == 2:
        return np.asarray(features, dtype=np.float64)
    flat = features.reshape(*features.shape[:2], -1)
    return np.concatenate([flat.mean(axis=2), flat.std(axis=2)], axis=1, dtype=np.float64)


def flattened(features: Features) -> Features:
    """Return all there is of each image, (n, D)."""
    return np.asarray(features, dtype=np.float32).reshape(len(features), -1)


def rooted(features: Features) -> Floats:
    """Return signed square roots of pooled features (Perronnin 2010, "power normalization"): no channel is too loud."""
    values = pooled(features)
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)), dtype=np.float64)


def normalized(vectors: Features) -> Floats:
    """Return vectors (n, D) of length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float64)


def dot(first: Floats, second: Floats) -> Floats:
    """Return one product per pair of rows, (n,)."""
    return np.asarray(np.einsum("ij,ij->i", first, second), dtype=np.float64)


def principal_axes(centered: Features, components: int) -> tuple[Features, Floats]:
    """Find the directions along which vectors differ most.

    Parameters
    ----------
    centered : ndarray of shape (n, D)
        Vectors around their mean.
    components : int
        At most this many; directions without any difference are left out, but for one.

    Returns
    -------
    axes : ndarray of shape (D, K)
        Orthonormal.
    deviations : ndarray of shape (K,)
        Standard deviations along them, falling, over 0.
    """
    wide = centered.shape[1] > len(centered)
    squares, vectors = np.linalg.eigh((centered @ centered.T if wide else centered.T @ centered).astype(np.float64))
    order = np.argsort(squares)[::-1][:components]
    least = max(1e-10, 50 * float(np.finfo(centered.dtype).eps)) * max(float(squares[order[0]]), 1e-30)
    order = order[: max(1, int((squares[order] > least).sum()))]
    size = np.sqrt(np.maximum(squares[order], least))
    axes = centered.T @ (vectors[:, order] / size) if wide else vectors[:, order]
    return axes, np.asarray(size / np.sqrt(len(centered)), dtype=np.float64)


def whitening(values: Features, components: int, *, scaled: bool = False) -> Callable[[Features], Floats]:
    """Fit principal components of unit variance.

    Parameters
    ----------
    values : ndarray of shape (n, D)
    components : int
        At most this many, K; empty directions are left out.
    scaled : bool
        Of features brought to equal scales before.

    Returns
    -------
    callable
        Vectors (m, D) -> (m, K).
    """
    mean, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.maximum(spread, 1e-6 * spread.max() + 1e-30) if scaled else np.ones_like(spread)
    axes, deviations = principal_axes((values - mean) / scale, components)
    basis = axes / deviations
    return lambda new: np.asarray((new - mean) / scale @ basis, dtype=np.float64)


def standardizing(maps: Features) -> Callable[[Features], Features]:
    """Fit mean 0 and variance 1 of every channel of maps (n, C, *spatial)."""
    axes = (0, *range(2, maps.ndim))
    mean, spread = maps.mean(axis=axes, keepdims=True), maps.std(axis=axes, keepdims=True)
    return lambda new: (new - mean) / np.maximum(spread, 1e-6 * spread.max() + 1e-30)
