"""Inversion of released features, in an audit."""

from collections.abc import Sequence

import numpy as np

from medfl.attacks.feature_inversion import evaluate_feature_inversion
from medfl.audit.findings import Findings
from medfl.results.attack import AttackResult
from medfl.results.report import FamilyOutcome
from pipelines.audit_input import ANCHORS, AttackInput, control, without_features

_LEAST_NAMED = 0.5


def inversion(given: AttackInput) -> Findings:
    """Map released features back to clear ones, knowing some pairs."""
    material = given.one_class
    if material is None:
        return without_features("inversion", given.run)
    known, draws, seed = ANCHORS[given.budget][1:], given.draws, given.seed
    found = evaluate_feature_inversion(
        material.released, material.clear, material.subjects, seed=seed, known=known, draws=draws
    )
    rows = [*found, *(_rank_row(one) for one in found)]
    clear = _best_named(
        evaluate_feature_inversion(
            material.clear, material.clear, material.subjects, seed=seed, known=known, draws=draws
        )
    )
    noise = np.random.default_rng(seed).standard_normal(material.released.shape)
    null = _best_named(
        evaluate_feature_inversion(noise, material.clear, material.subjects, seed=seed, known=known, draws=draws)
    )
    controls = (
        control(
            "inversion", "positive", "clear features as release", clear, clear.value >= _LEAST_NAMED, "0.5 or more"
        ),
        control(
            "inversion",
            "null",
            "random features",
            null,
            null.ci_low <= null.chance,
            "an interval that reaches down to guessing",
        ),
    )
    return Findings(
        outcome=FamilyOutcome(
            family="inversion",
            status="run",
            reason="closed-form attacks on features",
            attacks=tuple(rows),
            headline=tuple(range(len(found), len(rows))),
            controls=controls,
            not_tried=("reconstruction of images", "a stolen key"),
        )
    )


def _rank_row(found: AttackResult) -> AttackResult:
    """Return the same attack, judged by how often it names the right clear features."""
    rank = next(one for one in found.further if one.name == "rank_1")
    low, high = rank.ci_low, rank.ci_high
    assert rank.value is not None
    assert low is not None
    assert high is not None
    assert rank.chance is not None
    return found.model_copy(
        update={
            "metric": "rank_1",
            "value": rank.value,
            "ci_low": low,
            "ci_high": high,
            "chance": rank.chance,
            "baseline": "guessing",
            "negatives": max(found.positives - 1, 0),
            "validation": None,
            "further": (),
        }
    )


def _best_named(found: Sequence[AttackResult]) -> AttackResult:
    return max((_rank_row(one) for one in found), key=lambda one: one.value)
