"""Metrics of confusion matrices, many matrices at a time."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _divide(part: Array, whole: Array, empty: float) -> Array:
    """Divide; `empty` where the whole is 0."""
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), empty))


def accuracy(tables: Array) -> Array:
    """Share of studies on the diagonal.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)
        Weights by (true, predicted) class.

    Returns
    -------
    ndarray of shape (draws,)
    """
    return _divide(np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2)), np.nan)


def sensitivity(tables: Array, position: int) -> Array:
    """Recall of one class; NaN if no study has it.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)
    position : int
        In [0, K).
    """
    return _divide(tables[:, position, position], tables[:, position].sum(axis=1), np.nan)


def specificity(tables: Array, position: int) -> Array:
    """Share of the other classes' studies that are not given this class; NaN if there are none.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)
    position : int
        In [0, K).
    """
    others = tables.sum(axis=(1, 2)) - tables[:, position].sum(axis=1)
    wrongly = tables[:, :, position].sum(axis=1) - tables[:, position, position]
    return _divide(others - wrongly, others, np.nan)


def f1(tables: Array, position: int) -> Array:
    """F1 of one class; NaN if it is neither true nor predicted anywhere.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)
    position : int
        In [0, K).
    """
    whole = tables[:, position].sum(axis=1) + tables[:, :, position].sum(axis=1)
    return _divide(2 * tables[:, position, position], whole, np.nan)


def balanced_accuracy(tables: Array) -> Array:
    """Mean recall over the classes that occur.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)
    """
    return _mean_defined(np.stack([sensitivity(tables, c) for c in range(tables.shape[1])]))


def macro_f1(tables: Array) -> Array:
    """Mean F1 over the classes that occur or are predicted.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)
    """
    return _mean_defined(np.stack([f1(tables, c) for c in range(tables.shape[1])]))


def _mean_defined(values: Array) -> Array:
    """Mean over the first axis without NaN; NaN if nothing is left."""
    defined = np.isfinite(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64), np.nan)


def matthews(tables: Array) -> Array:
    """Matthews correlation for K classes (Gorodkin 2004); 0 where it is undefined, as scikit-learn says.

    Parameters
    ----------
    tables : ndarray of shape (draws, K, K)

    Returns
    -------
    ndarray of shape (draws,)
        In [-1, 1].
    """
    true, predicted = tables.sum(axis=2), tables.sum(axis=1)
    total = tables.sum(axis=(1, 2))
    hits = np.trace(tables, axis1=1, axis2=2)
    over = hits * total - (true * predicted).sum(axis=1)
    under = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    root = np.sqrt(np.maximum(under, 0.0))
    return np.asarray(np.where(root > 0, over / np.where(root > 0, root, 1.0), 0.0))


def resample_confusion(
    effective: Array, draws: int, generator: np.random.Generator, *, studies: Array | None = None
) -> Array:
    """Draw confusion matrices: class shares, then each class's predictions, from their Dirichlet posteriors.

    The prior weighs one study per row, 1/K in each cell: for two classes the Jeffreys prior of a proportion.
    Classes that do not occur stay empty.

    Parameters
    ----------
    effective : ndarray of shape (K, K)
        Counts over design effects.
    draws : int
    generator : Generator
    studies : ndarray of shape (K,), optional
        Studies per true class; the mix of classes is drawn around theirs. The default takes the mix of `effective`.

    Returns
    -------
    ndarray of shape (draws, K, K)
        Shares, adding up to 1 per draw.
    """
    k = len(effective)
    occurring = np.flatnonzero(effective.sum(axis=1) > 0)
    tables = np.zeros((draws, k, k))
    sizes = effective[occurring].sum(axis=1)
    mix = sizes if studies is None else studies[occurring] / studies[occurring].sum() * sizes.sum()
    shares = generator.dirichlet(mix + 1.0 / k, size=draws)
    for place, row in enumerate(occurring):
        predictions = generator.dirichlet(effective[row] + 1.0 / k, size=draws)
        tables[:, row] = shares[:, place, None] * predictions
    return tables
