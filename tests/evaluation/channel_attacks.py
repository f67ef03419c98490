"""Attacks on exact sums of a few subjects, each written so that it succeeds on a careless release.

An attack gets arrays, the number of subjects and public knowledge (ranges, integer counts, the population), and claims
one value per subject; `medfl.attacks.metrics_channel` holds those that an audit runs.
"""

from itertools import combinations_with_replacement

import numpy as np


def spell_out(
    total: float, window: float, alphabet: np.ndarray, weights: np.ndarray, n: int, second: tuple[float, float] | None
) -> np.ndarray:
    """Find the multiset of n values from a small alphabet whose sum is known; the likeliest of those that fit."""
    choices = np.array(list(combinations_with_replacement(range(len(alphabet)), n)))
    values = alphabet[choices]
    fits = np.abs(values.sum(axis=1) - total) <= window
    if second is not None:
        spread = values.std(axis=1)
        fits &= (spread >= second[0]) & (spread <= second[1])
    if not fits.any():
        return np.zeros(n)
    likelihood = np.log(weights[choices[fits]]).sum(axis=1)
    return np.asarray(values[fits][likelihood.argmax()])


def meet_in_the_middle(
    totals: np.ndarray, windows: np.ndarray, alphabet: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Find five entries of an alphabet of (dice, iou) that add up to the totals: 2 + 3, by sorted search."""
    size = len(alphabet)
    pairs = np.array(list(combinations_with_replacement(range(size), 2)))
    triples = np.array(list(combinations_with_replacement(range(size), 3)))
    pair_sums, triple_sums = alphabet[pairs].sum(axis=1), alphabet[triples].sum(axis=1)
    order = np.argsort(triple_sums[:, 0])
    sorted_sums = triple_sums[order, 0]
    matches: list[np.ndarray] = []
    for index in generator.permutation(len(pairs)):
        rest = totals - pair_sums[index]
        low, high = np.searchsorted(sorted_sums, [rest[0] - windows[0], rest[0] + windows[0]])
        near = order[low:high]
        near = near[np.abs(triple_sums[near, 1] - rest[1]) <= windows[1]]
        if len(near):
            chosen = triples[near[generator.integers(len(near))]]
            matches.append(np.concatenate([pairs[index], chosen]))
        if len(matches) >= 20:
            break
    if not matches:
        return np.zeros(5)
    return np.asarray(alphabet[matches[generator.integers(len(matches))], 0])


def lone_draws(replicates: np.ndarray, n: int) -> np.ndarray:
    """Read bootstrap replicates that drew one subject alone: the sums of values in [0, 1] that lie in (0.5, 1]."""
    alone = np.unique(np.round(replicates[(replicates > 0.5) & (replicates <= 1.0)], 9))
    return np.resize(alone, n) if len(alone) else np.zeros(n)
