"""Re-identification: every attacker learns on its own subjects and is judged on strangers.

Features are vectors (n, D) or maps (n, C, *spatial). An attacker fits on features of subjects it knows and returns a
`Scorer`; it never sees a test subject. Whatever it chooses, it chooses on held-out subjects of its own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.linear_attackers import CosineAttacker, EuclidAttacker, LdaAttacker
from medfl.attacks.network_attackers import PairClassifierAttacker, SiameseAttacker
from medfl.attacks.pairs import Attacker, Features, Scorer, held_out_pairs, verification_pairs
from medfl.attacks.score_fusion import FusionAttacker
from medfl.attacks.statistics import cluster_bootstrap_auc
from medfl.errors import ConfigError, ShapeError
from medfl.results.attack import AttackResult


@dataclass(frozen=True, eq=False)
class FittedAttack:
    """A result, and the scorer behind it, fitted on all of the attacker's subjects."""

    result: AttackResult
    scorer: Scorer


def default_attackers(seed: int) -> tuple[Attacker, ...]:
    """Return every attacker, naive ones first."""
    return (
        CosineAttacker(),
        EuclidAttacker(),
        LdaAttacker(seed),
        PairClassifierAttacker(seed),
        SiameseAttacker(seed),
        FusionAttacker(seed),
    )


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
    found = fitted_attacks(
        attacker_features,
        attacker_subjects,
        test_features,
        test_subjects,
        seed=seed,
        draws=draws,
        impostors=impostors,
        strata=strata,
        attackers=attackers,
    )
    return tuple(one.result for one in found)


def fitted_attacks(
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
) -> tuple[FittedAttack, ...]:
    """Do as `evaluate_reidentification`, and return the fitted scorers, too."""
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
        scorer = attacker.fit(attacker_features, known)
        scores = scorer.of_pairs(test_features, pairs)
        seconds = time.perf_counter() - began
        for matched in (False,) if strata is None else (False, True):
            kept = pairs.is_same | (pairs.is_matched == matched)
            first, second = strangers[pairs.first[kept]], strangers[pairs.second[kept]]
            found = cluster_bootstrap_auc(scores[kept], first, second, draws, np.random.default_rng(seed))
            result = AttackResult(
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
            results.append(FittedAttack(result, scorer))
    return tuple(results)


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
