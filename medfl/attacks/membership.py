"""Whether a person was among those that the model learned from.

The signal of a study is what the model gives the true answer: its probability, or exp(-loss), in (0, 1]. For a
segmentation it is exp(-mean cross entropy over the image), or the Dice score where it is above 0. The attacker may ask
reference models too, trained on data that it has, and compare: a study that every model finds easy says little.

The unit is the subject: one membership, one score and one place in every resampling, however many studies. Members and
non-members have to come from the same distribution; `blind_auc` tells what their difference alone gives away.
"""

import time

import numpy as np
from numpy.typing import ArrayLike

from medfl.attacks.membership_signals import (
    Bools,
    Floats,
    MembershipSignals,
    by_subject,
    checked_signals,
    count_below,
    memberships_of,
    numbered,
    seen_of,
    signal_ratios,
)
from medfl.attacks.operating_points import tpr_at_fpr
from medfl.attacks.statistics import LEVEL, auc
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control, Measure

_FPR = 0.01
POSITIVE_CONTROL = 0.9
"""Area that an attacker has to reach on a model that knows its members by heart."""
_FOLDS = 5
_STEPS = 200


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
    target, references = checked_signals(signals.target, signals.references)
    is_member = memberships_of(signals.is_member, signals.subjects)
    target, references = by_subject(target, signals.subjects), by_subject(references, signals.subjects)
    seen = seen_of(signals, len(references))
    plain = time.perf_counter() - started
    started = time.perf_counter()
    ratios = signal_ratios(target, references, seen, offline_a)
    own = count_below(ratios, ratios, 1.0)
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
    first, numbers, counts = numbered(subjects)
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(numbers) or not table.shape[1] or not np.isfinite(table).all():
        raise ShapeError(f"features must be finite and of shape ({len(numbers)}, D), D >= 1; found {table.shape}.")
    members = memberships_of(is_member, subjects)
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
    name = f"tpr_at_fpr_{_FPR}"
    try:
        value = tpr_at_fpr(inside, outside, _FPR)
        rates = [tpr_at_fpr(np.repeat(inside, one), np.repeat(outside, other), _FPR) for one, other in weights]
        least, most = np.quantile(rates, ends)
        rate = Measure(name=name, value=value, ci_low=float(least), ci_high=float(most), chance=_FPR)
    except TooFewSubjectsError as error:
        rate = Measure(name=name, value=None, chance=_FPR, note=str(error))
    return auc(inside, outside), float(low), float(high), rate


def _logistic(features: Floats, labels: Bools, others: Floats) -> Floats:
    """Fit a ridge logistic regression and score others.

    Steps use the curvature bound of Boehning and Lindsay 1988, which never diverges.
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
