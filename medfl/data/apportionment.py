"""Dividing a number of things by shares, exactly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def apportion(total: int, shares: Sequence[float], *, at_least_one: bool = False) -> NDArray[np.int64]:
    """Return whole numbers that add up to `total`, by largest remainder.

    Parameters
    ----------
    total : int
        What to divide, >= 0.
    shares : sequence of float
        Each >= 0, sum 1.
    at_least_one : bool
        Take from the largest so that no share above zero ends with nothing, where `total` allows.

    Returns
    -------
    ndarray of int64, shape (len(shares),)
        Each within 1 of ``share * total``, except where `at_least_one` had to move some.
    """
    wanted = np.asarray(shares, dtype=np.float64) * total
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    by_remainder = np.argsort(-(wanted - counts), kind="stable")
    counts[by_remainder[: total - int(counts.sum())]] += 1
    positive = np.asarray(shares) > 0.0
    if at_least_one and total >= int(positive.sum()):
        for index in np.flatnonzero(positive & (counts == 0)):
            counts[int(np.argmax(counts))] -= 1
            counts[index] = 1
    return counts


def deal(total: int, shares: Sequence[float], *, at_least_one: bool = False) -> NDArray[np.int64]:
    """Return indices into `shares`: counts as `apportion` gives them, each index spread evenly over the sequence.

    Parameters
    ----------
    total, shares, at_least_one
        As in `apportion`.

    Returns
    -------
    ndarray of int64, shape (total,)
    """
    counts = apportion(total, shares, at_least_one=at_least_one)
    keys = np.concatenate([(np.arange(count) + 0.5) / max(int(count), 1) for count in counts])
    indices = np.repeat(np.arange(len(counts)), counts)
    return indices[np.argsort(keys, kind="stable")]
