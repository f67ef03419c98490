"""What models say about the true answers of studies, per study and per subject, and the RMIA score of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

_ROUNDING = 1e-6

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class MembershipSignals:
    """What a released model and the attacker's reference models say about the true answers of n studies.

    Attributes
    ----------
    target : array_like of shape (n,)
        Signals of the released model, in (0, 1].
    references : array_like of shape (k, n)
        The same of k reference models.
    seen : array_like of shape (k, n), bool
        Whether a reference model learned from that study's subject. It must not depend on `is_member`.
    subjects : array_like of shape (n,)
    is_member : array_like of shape (n,), bool
        Whether the released model learned from that study's subject; equal within a subject.
    setting : str
        What else tells this run from others.
    other_subjects : int
        Subjects that the reference models learned from and that are not among the studies.
    """

    target: ArrayLike
    references: ArrayLike
    seen: ArrayLike
    subjects: ArrayLike
    is_member: ArrayLike
    setting: str = ""
    other_subjects: int = 0


def rmia_scores(
    target: ArrayLike,
    references: ArrayLike,
    population_target: ArrayLike,
    population_references: ArrayLike,
    *,
    offline_a: float = 0.3,
    gamma: float = 1.0,
) -> Floats:
    """Return the offline RMIA score: the share of a population that the released model favors less than this subject.

    ``R(x) = p(x) / P(x)`` with ``P(x) = ((1 + a) * mean of the references + (1 - a)) / 2``, and the score is the share
    of z in the population with ``R(x) > gamma * R(z)`` (Zarifzadeh, Liu and Shokri 2024, "Low-cost high-power
    membership inference attacks").

    Parameters
    ----------
    target : array_like of shape (n,)
        Signals of the released model, in (0, 1].
    references : array_like of shape (k, n)
        The same of k >= 1 models that did not learn from these subjects.
    population_target : array_like of shape (m,)
        Signals of the population, m >= 1, chosen without knowing who is a member.
    population_references : array_like of shape (k, m)
    offline_a : float
        In [0, 1]; 1 trusts the references as they are, 0 expects members to be as far from them as they can.
    gamma : float
        > 0.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1], higher means "member".

    Raises
    ------
    ConfigError
        If `offline_a` or `gamma` is out of range, or there is no reference model.
    ShapeError
        If shapes do not fit or a signal is not in (0, 1].
    """
    if not gamma > 0:
        raise ConfigError(f"gamma must be above 0, got {gamma}.")
    found = signal_ratios(*checked_signals(target, references), None, offline_a)
    population = signal_ratios(*checked_signals(population_target, population_references), None, offline_a)
    return np.asarray(count_below(population, found, gamma) / len(population))


def by_subject(signals: ArrayLike, subjects: ArrayLike) -> Floats:
    """Pool signals over the studies of each subject: the mean of their logarithms, as if a study were all of them.

    Parameters
    ----------
    signals : array_like of shape (..., n)
        In (0, 1].
    subjects : array_like of shape (n,)

    Returns
    -------
    ndarray of shape (..., s)
        In (0, 1], subjects in the order of ``numpy.unique``.

    Raises
    ------
    ShapeError
        If shapes do not fit or a signal is not in (0, 1].
    """
    first, numbers, counts = numbered(subjects)
    logs = np.log(_signals(signals))
    if logs.shape[-1:] != numbers.shape:
        raise ShapeError(f"there must be one signal per study: {numbers.shape}, found shape {logs.shape}.")
    anchor = logs[..., first]  # equal studies have to give an equal mean, to the last bit
    order = np.argsort(numbers, kind="stable")
    sums = np.add.reduceat((logs - anchor[..., numbers])[..., order], np.cumsum(counts) - counts, axis=-1)
    return np.asarray(np.exp(anchor + sums / counts))


def signal_ratios(target: Floats, references: Floats, seen: Bools | None, offline_a: float) -> Floats:
    """Return R(x) of shape (n,) for signals (n,) and (k, n); reference models that saw x are left out."""
    if not 0 <= offline_a <= 1:
        raise ConfigError(f"offline_a must be in [0, 1], got {offline_a}.")
    out = np.ones(references.shape, dtype=np.bool_) if seen is None else ~seen
    counts = out.sum(axis=0)
    if not counts.all():
        raise ConfigError(
            f"every subject needs a reference model that did not learn from it, {int((counts == 0).sum())} have none; "
            "train reference models on other subjects."
        )
    anchor = np.take_along_axis(references, np.argmax(out, axis=0)[None], axis=0)[0]
    mean = anchor + np.where(out, references - anchor, 0.0).sum(axis=0) / counts
    return np.asarray(2 * target / ((1 + offline_a) * mean + (1 - offline_a)))


def count_below(population: Floats, ratios: Floats, gamma: float) -> NDArray[np.int64]:
    """Count z with R(x) > gamma R(z); at gamma 1 nobody is above itself."""
    return np.asarray(np.searchsorted(gamma * np.sort(population), ratios, side="left"), dtype=np.int64)


def memberships_of(is_member: ArrayLike, subjects: ArrayLike) -> Bools:
    """Return one membership per subject, shape (s,)."""
    first, numbers, _ = numbered(subjects)
    flags = np.asarray(is_member)
    if flags.shape != numbers.shape or flags.dtype != np.bool_:
        raise ShapeError(f"is_member must be bool of shape {numbers.shape}, found {flags.dtype} of {flags.shape}.")
    members = flags[first]
    if (members[numbers] != flags).any():
        raise ConfigError("a subject must be a member with all of its studies or with none, found one with both.")
    if min(int(members.sum()), int((~members).sum())) < 2:
        raise TooFewSubjectsError(
            f"Membership needs at least two members and two non-members, found {int(members.sum())} and "
            f"{int((~members).sum())}."
        )
    return np.asarray(members)


def seen_of(signals: MembershipSignals, models: int) -> Bools:
    """Return whether each model saw any study of each subject, shape (k, s)."""
    _, numbers, counts = numbered(signals.subjects)
    seen = np.asarray(signals.seen)
    if seen.shape != (models, len(numbers)) or seen.dtype != np.bool_:
        raise ShapeError(f"seen must be bool of shape {(models, len(numbers))}, found {seen.dtype} of {seen.shape}.")
    order = np.argsort(numbers, kind="stable")
    return np.asarray(np.logical_or.reduceat(seen[:, order], np.cumsum(counts) - counts, axis=1))


def numbered(subjects: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first study of each subject, the subject's number of each study, and its count of studies."""
    names = np.asarray(subjects)
    if names.ndim != 1 or not len(names):
        raise ShapeError(f"subjects must be one name per study, at least one; found shape {names.shape}.")
    _, first, numbers, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    return first, numbers, counts


def checked_signals(target: ArrayLike, references: ArrayLike) -> tuple[Floats, Floats]:
    """Return signals (n,) and those of the references (k, n), or say what is wrong with them."""
    one, many = _signals(target), np.asarray(references, dtype=np.float64)
    if one.ndim != 1 or many.ndim != 2 or many.shape[1:] != one.shape:
        raise ShapeError(f"signals must be (n,) and (k, n) of the references, found {one.shape} and {many.shape}.")
    if not len(many):
        raise ConfigError("RMIA needs at least one reference model, found none.")
    return one, _signals(many)


def _signals(values: ArrayLike) -> Floats:
    signals = np.asarray(values, dtype=np.float64)
    if not signals.size or not ((signals > 0) & (signals <= 1 + _ROUNDING)).all():
        raise ShapeError(
            "signals must be probabilities or exp(-loss), finite and in (0, 1], at least one; "
            "clip what is 0 to a small number."
        )
    return np.minimum(signals, 1.0)
