"""Verification over all pairs of many images, tile by tile, without holding the matrix of scores."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.errors import ConfigError, ShapeError

Floats = NDArray[np.float64]


def blocked_auc(embeddings: Floats, subjects: ArrayLike, *, block: int = 1024) -> float:
    """Area under the curve over all pairs of images, by inner product; a tie counts one half.

    Exact, as if all n (n - 1) / 2 scores were sorted. Tiles that hold genuine pairs are computed twice, first for the
    genuine scores, which are held, then every tile for its impostors, which are counted against them.

    Parameters
    ----------
    embeddings : ndarray of shape (n, K)
        Finite; of unit length for cosine similarity.
    subjects : array_like of shape (n,)
    block : int
        Side of a tile, at least 1; about 17 bytes * block ** 2 are held beside the genuine scores.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ConfigError
        If `block` is under 1.
    ShapeError
        If shapes do not fit, values are not finite, or a kind of pair is missing.
    """
    if block < 1:
        raise ConfigError(f"block must be at least 1, got {block}.")
    vectors, names = np.asarray(embeddings, dtype=np.float64), np.asarray(subjects)
    if vectors.ndim != 2 or names.shape != vectors.shape[:1] or not np.isfinite(vectors).all():
        raise ShapeError(
            f"embeddings must be finite and of shape (n, K) with a subject each; found {vectors.shape} and "
            f"{names.shape}."
        )
    numbers = np.unique(names, return_inverse=True)[1]
    order = np.argsort(numbers, kind="stable")
    vectors, numbers = vectors[order], numbers[order]
    mated = [tile[same] for tile, same in _tiles(vectors, numbers, block, only_mated=True)]
    genuine = np.sort(np.concatenate(mated)) if mated else np.empty(0)
    pairs = len(numbers) * (len(numbers) - 1) // 2
    impostors = pairs - len(genuine)
    if not len(genuine) or not impostors:
        raise ShapeError("embeddings must hold at least one genuine and one impostor pair.")
    doubled = 0
    for tile, same in _tiles(vectors, numbers, block, only_mated=False):
        others = np.sort(tile[~same])
        for side in ("left", "right"):
            doubled += int(np.searchsorted(others, genuine, side=side).sum())
    return doubled / (2 * len(genuine) * impostors)


def _tiles(
    vectors: Floats, numbers: NDArray[np.int64], block: int, *, only_mated: bool
) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """Yield scores of every pair once, and which of them are genuine; both flat. Subjects are sorted."""
    starts = range(0, len(vectors), block)
    for row in starts:
        for column in starts[row // block :]:
            if only_mated and numbers[column] > numbers[min(row + block, len(numbers)) - 1]:
                break
            rows, columns = slice(row, row + block), slice(column, column + block)
            scores = vectors[rows] @ vectors[columns].T
            same = numbers[rows, None] == numbers[columns]
            kept = np.triu_indices(len(scores), k=1) if row == column else ...
            yield scores[kept].ravel(), same[kept].ravel()
