"""Was this person among those that the model learned from?

The signal of a study is what the model gives the true answer: its probability, or exp(-loss), in (0, 1]. For a
segmentation it is exp(-mean cross entropy over the image), or the Dice score where it is above 0. The attacker may ask
reference models too, trained on data that it has, and compare: a study that every model finds easy says little.

The unit is the subject: one membership, one score and one place in every resampling, however many studies. Members and
non-members have to come from the same distribution; `blind_auc` tells what their difference alone gives away.
"""

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.statistics import LEVEL, auc
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control, Measure

FPR = 0.01
NEGATIVES_FOR_FPR = 3000  # 30 expected false alarms
POSITIVE_CONTROL = 0.9
_FOLDS = 5
_STEPS = 200
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
    """Offline RMIA: the share of a population that the released model favors less than this subject.

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
    found = _ratios(*_checked(target, references), None, offline_a)
    population = np.sort(_ratios(*_checked(population_target, population_references), None, offline_a))
    return np.asarray(_below(population, found, gamma) / len(population))


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
    first, numbers, counts = _numbered(subjects)
    logs = np.log(_signals(signals))
    if logs.shape[-1:] != numbers.shape:
        raise ShapeError(f"there must be one signal per study: {numbers.shape}, found shape {logs.shape}.")
    anchor = logs[..., first]  # equal studies have to give an equal mean, to the last bit
    order = np.argsort(numbers, kind="stable")
    sums = np.add.reduceat((logs - anchor[..., numbers])[..., order], np.cumsum(counts) - counts, axis=-1)
    return np.asarray(np.exp(anchor + sums / counts))


def tpr_at_fpr(
    members: ArrayLike,
    non_members: ArrayLike,
    fpr: float = FPR,
    member_weights: ArrayLike | None = None,
    non_member_weights: ArrayLike | None = None,
) -> float:
    """Share of members above a threshold that at most a share `fpr` of the non-members is above.

    Parameters
    ----------
    members : array_like of shape (p,)
        Finite scores, higher means "member".
    non_members : array_like of shape (q,)
    fpr : float
        In (0, 1).
    member_weights, non_member_weights : array_like of the same shapes, or None
        >= 0, not all zero; None counts everybody once.

    Returns
    -------
    float
        In [0, 1]. A threshold never splits equal scores, so the false alarms may be fewer than `fpr` allows.
    """
    scores = np.asarray(members, dtype=np.float64)
    values, numbers = np.unique(np.asarray(non_members, dtype=np.float64), return_inverse=True)
    own = np.ones(len(scores)) if member_weights is None else np.asarray(member_weights, dtype=np.float64)
    others = None if non_member_weights is None else np.asarray(non_member_weights, dtype=np.float64)
    running = np.cumsum(np.bincount(numbers, weights=others, minlength=len(values)))
    threshold = values[np.argmax(running[-1] - running <= fpr * running[-1] + 1e-9)]
    return float(own @ (scores > threshold) / own.sum())


def evaluate_membership(
    signals: MembershipSignals, *, seed: int, draws: int = 1000, offline_a: float = 0.3
) -> tuple[AttackResult, ...]:
    """Score every subject by the loss alone and by RMIA.

    A reference model that saw a subject is left out for this subject. The population of RMIA is every other tested
    subject, members and non-members alike: nothing about membership chooses it. False alarms are counted over
    all non-members together, which bounds nobody's own risk.

    Parameters
    ----------
    signals : MembershipSignals
    seed : int
        Equal seeds give equal intervals, and both rows the same draws of subjects.
    draws : int
        At least 1; 1,000 or more for a stable interval.
    offline_a : float
        See `rmia_scores`. It must be chosen on reference models, never by this result.

    Returns
    -------
    tuple of AttackResult
        "loss threshold", which needs no reference model, then "RMIA". The true positive rate at 1 % false positives
        is None under 3,000 non-members.

    Raises
    ------
    ConfigError
        If `draws` or `offline_a` is out of range, a subject is member and non-member, or every reference model saw it.
    ShapeError
        If shapes do not fit or a signal is not in (0, 1].
    TooFewSubjectsError
        If there are fewer than two members or two non-members.
    """
    started = time.perf_counter()
    target, references = _checked(signals.target, signals.references)
    is_member = _memberships(signals.is_member, signals.subjects)
    target, references = by_subject(target, signals.subjects), by_subject(references, signals.subjects)
    seen = _seen(signals, len(references))
    plain = time.perf_counter() - started
    started = time.perf_counter()
    ratios = _ratios(target, references, seen, offline_a)
    own = _below(ratios, ratios, 1.0, is_sorted=False)
    rmia = own / (len(ratios) - 1)
    used = (
        Measure(name="reference_models", value=len(references)),
        Measure(name="fewest_unseen_references", value=int((~seen).sum(axis=0).min())),
    )
    learned = int(seen.any(axis=0).sum()) + signals.other_subjects
    rows = [
        ("loss threshold", target, (), 0, "no reference model", plain),
        ("RMIA", rmia, used, learned, f"{len(references)} reference models", time.perf_counter() - started),
    ]
    studies = Measure(name="studies", value=np.asarray(signals.subjects).size)
    results = []
    for name, scores, measures, attackers, budget, seconds in rows:
        started = time.perf_counter()
        value, low, high, rate = _resampled(scores, is_member, seed, draws)
        results.append(
            AttackResult(
                family="membership",
                name=name,
                knowledge="model",
                setting=signals.setting,
                value=value,
                ci_low=low,
                ci_high=high,
                subjects=len(is_member),
                positives=int(is_member.sum()),
                negatives=int((~is_member).sum()),
                attacker_subjects=attackers,
                further=(rate, studies, *measures),
                budget=budget,
                seconds=seconds + time.perf_counter() - started,
            )
        )
    return tuple(results)


def evaluate_controls(
    overfitted: MembershipSignals, unseen: MembershipSignals, *, seed: int, draws: int = 1000
) -> tuple[Control, ...]:
    """Run every attacker where members must be found, and where nothing can be.

    Parameters
    ----------
    overfitted : MembershipSignals
        Of a model trained until it knows its members by heart.
    unseen : MembershipSignals
        Of a model that learned from no tested subject, with the memberships of the real one.
    seed, draws : int
        See `evaluate_membership`, whose errors it raises.

    Returns
    -------
    tuple of Control
        For each attacker one "positive" and one "null".
    """
    positive = evaluate_membership(overfitted, seed=seed, draws=draws)
    null = evaluate_membership(unseen, seed=seed, draws=draws)
    found = [
        _control(row, "positive", f"at least {POSITIVE_CONTROL}", row.value >= POSITIVE_CONTROL) for row in positive
    ]
    return (*found, *(_control(row, "null", "0.5 within the interval", _has_half(row)) for row in null))


def blind_auc(
    features: ArrayLike, is_member: ArrayLike, subjects: ArrayLike, seed: int, *, draws: int = 1000
) -> Control:
    """Tell members from non-members without the model, by a logistic regression on what else is known of them.

    Above one half, members and non-members differ by site, time or case mix, and a membership AUC is believed only as
    far as it is above this one. Every subject is scored by a regression that did not learn from it; scores are
    ranks within its fold, since those of two regressions do not compare.

    Parameters
    ----------
    features : array_like of shape (n, D)
        Metadata and labels in numbers, for example age, sex and diagnosis; averaged over the studies of a subject.
    is_member : array_like of shape (n,), bool
        Equal within a subject.
    subjects : array_like of shape (n,)
    seed : int
    draws : int
        At least 1.

    Returns
    -------
    Control
        Of kind "confounder", passed where the interval reaches down to 0.5. The interval holds the regressions fixed.

    Raises
    ------
    ConfigError
        If `draws` is under 1 or a subject is member and non-member.
    ShapeError
        If shapes do not fit or a feature is not finite.
    TooFewSubjectsError
        If there are fewer than two members or two non-members.
    """
    first, numbers, counts = _numbered(subjects)
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(numbers) or not table.shape[1] or not np.isfinite(table).all():
        raise ShapeError(f"features must be finite and of shape ({len(numbers)}, D), D >= 1; found {table.shape}.")
    members = _memberships(is_member, subjects)
    pooled = table[first]
    np.add.at(pooled, numbers, (table - table[first][numbers]) / counts[numbers, None])
    generator = np.random.default_rng(seed)
    folds = np.empty(len(members), dtype=np.int64)
    count = min(_FOLDS, int(members.sum()), int((~members).sum()))
    for kind in (True, False):
        chosen = np.flatnonzero(members == kind)
        folds[chosen] = generator.permutation(len(chosen)) % count
    scores = np.empty(len(members))
    for fold in range(count):
        held = folds == fold
        linear = _logistic(pooled[~held], members[~held], pooled[held])
        scores[held] = _mid_ranks(linear)
    value, low, high, _ = _resampled(scores, members, seed, draws)
    return Control(
        family="membership",
        kind="confounder",
        name="blind logistic regression",
        value=value,
        ci_low=low,
        ci_high=high,
        expected="an interval that reaches 0.5 or less: members and non-members do not differ without the model",
        passed=low <= 0.5,
    )


def _ratios(target: Floats, references: Floats, seen: Bools | None, offline_a: float) -> Floats:
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


def _below(population: Floats, ratios: Floats, gamma: float, *, is_sorted: bool = True) -> NDArray[np.int64]:
    """Count z with R(x) > gamma R(z); at gamma 1 nobody is above itself."""
    ordered = population if is_sorted else np.sort(population)
    return np.asarray(np.searchsorted(gamma * ordered, ratios, side="left"), dtype=np.int64)


def _resampled(scores: Floats, is_member: Bools, seed: int, draws: int) -> tuple[float, float, float, Measure]:
    """Return area, both ends of its interval, and the TPR; members and non-members are drawn separately."""
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}.")
    generator = np.random.default_rng(seed)
    inside, outside = scores[is_member], scores[~is_member]
    weights = [
        [generator.multinomial(len(one), np.full(len(one), 1 / len(one))) for one in (inside, outside)]
        for _ in range(draws)
    ]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile([auc(inside, outside, *pair) for pair in weights], ends)
    name = f"tpr_at_fpr_{FPR}"
    if len(outside) < NEGATIVES_FOR_FPR:
        note = f"needs {NEGATIVES_FOR_FPR} non-members, there are {len(outside)}"
        rate = Measure(name=name, value=None, chance=FPR, note=note)
    else:
        value = tpr_at_fpr(inside, outside)
        rates = np.quantile([tpr_at_fpr(inside, outside, FPR, *pair) for pair in weights], ends)
        rate = Measure(name=name, value=value, ci_low=float(rates[0]), ci_high=float(rates[1]), chance=FPR)
    return auc(inside, outside), float(low), float(high), rate


def _logistic(features: Floats, labels: Bools, others: Floats) -> Floats:
    """Fit a ridge logistic regression and score others; the curvature bound of Boehning and Lindsay 1988 never diverges.

    Both classes weigh the same. Features are standardized by those that it learns from.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    weights = np.where(labels, 0.5 / labels.mean(), 0.5 / (~labels).mean())
    penalty = np.r_[np.ones(features.shape[1]), 0.0]
    inverse = np.linalg.inv((design.T * weights) @ design / 4 + np.diag(penalty))
    slope = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        error = weights * (labels - 0.5 * (1 + np.tanh(design @ slope / 2)))
        slope += inverse @ (design.T @ error - penalty * slope)
    return np.asarray((others - mean) / spread @ slope[:-1])


def _mid_ranks(scores: Floats) -> Floats:
    """Return ranks in (0, 1); equal scores share theirs."""
    ordered = np.sort(scores)
    ends = [np.searchsorted(ordered, scores, side=side) for side in ("left", "right")]
    return np.asarray((ends[0] + ends[1]) / (2 * len(scores)))


def _control(row: AttackResult, kind: Literal["null", "positive"], expected: str, passed: bool) -> Control:
    return Control(
        family=row.family,
        kind=kind,
        name=row.name,
        value=row.value,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        expected=expected,
        passed=passed,
    )


def _has_half(row: AttackResult) -> bool:
    return row.ci_low <= 0.5 <= row.ci_high


def _memberships(is_member: ArrayLike, subjects: ArrayLike) -> Bools:
    """Return one membership per subject, shape (s,)."""
    first, numbers, _ = _numbered(subjects)
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


def _seen(signals: MembershipSignals, models: int) -> Bools:
    """Return whether each model saw any study of each subject, shape (k, s)."""
    _, numbers, counts = _numbered(signals.subjects)
    seen = np.asarray(signals.seen)
    if seen.shape != (models, len(numbers)) or seen.dtype != np.bool_:
        raise ShapeError(f"seen must be bool of shape {(models, len(numbers))}, found {seen.dtype} of {seen.shape}.")
    order = np.argsort(numbers, kind="stable")
    return np.asarray(np.logical_or.reduceat(seen[:, order], np.cumsum(counts) - counts, axis=1))


def _numbered(subjects: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first study of each subject, the subject's number of each study, and its count of studies."""
    names = np.asarray(subjects)
    if names.ndim != 1 or not len(names):
        raise ShapeError(f"subjects must be one name per study, at least one; found shape {names.shape}.")
    _, first, numbers, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    return first, numbers, counts


def _checked(target: ArrayLike, references: ArrayLike) -> tuple[Floats, Floats]:
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
