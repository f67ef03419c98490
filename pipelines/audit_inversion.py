"""Inversion of released features, in an audit: to clear features, with a stolen key, and to images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.division import linkable_class
from medfl.attacks.feature_inversion import ESTIMATORS, KNOWN_IMAGES, evaluate_feature_inversion
from medfl.attacks.kept_numbers import FEW_NUMBERS, closest_is_own
from medfl.attacks.pairs import Features
from medfl.audit.curves import anchor_curves
from medfl.audit.findings import Findings
from medfl.audit.material import ReleasedFeatures
from medfl.errors import ImageReadError, KeyFileError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control
from medfl.results.report import FamilyOutcome
from pipelines.audit_input import ANCHORS, AttackInput, control, without_features
from pipelines.audit_reconstruction import RebuiltImages, rebuilt_images
from pipelines.audit_stolen_key import (
    features_before_key,
    keyed_releases,
    moved_positions,
    moves_positions,
    with_the_key,
)

_LEAST_NAMED = 0.5
_WITH_THE_KEY = "with the key the transform protects nothing; rows with it show the residual risk and decide no verdict"


def inversion(given: AttackInput) -> Findings:
    """Map released features back to clear ones and to images.

    Verdicts rest on attackers without the key: closed forms from known pairs, and the decoder of images that did best
    on the attacker's own held-out subjects.
    """
    everything, material = given.material, given.one_class
    if everything is None or material is None:
        return without_features("inversion", given.run)
    kept = everything.labels == linkable_class(everything.subjects, everything.labels)
    before, seen = features_before_key(given.run), _key_by_key(given, material)
    closed, controls = _closed_forms(given, material, seen)
    if given.run.config.protection.minimize is not None:
        closed = (*closed, *_kept_numbers(given, material, seen, before[kept]))
    named = _rank_rows(closed)
    headline = [len(closed) + place for place in range(len(named))]
    rows = [*closed, *named]
    images, missing = _images(given, seen, kept)
    if images is not None:
        headline.append(len(rows) + images.headline)
        rows += images.attacks
        controls = (*controls, *images.controls)
    stolen, reason = _stolen_key(given, material, before, kept)
    return Findings(
        outcome=FamilyOutcome(
            family="inversion",
            status="run",
            reason=reason,
            attacks=(*rows, *stolen),
            headline=tuple(headline),
            controls=controls,
            not_tried=missing,
        ),
        curves=anchor_curves(named),
        pictures=() if images is None else (images.picture,),
    )


def _closed_forms(
    given: AttackInput, material: ReleasedFeatures, seen: Features
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    """Return closed-form attacks from known pairs, and their controls."""
    known, seed = ANCHORS[given.budget][1:], given.seed

    def attacked(features: Features) -> tuple[AttackResult, ...]:
        return evaluate_feature_inversion(
            features, material.clear, material.subjects, seed=seed, known=known, draws=given.draws
        )

    noise = np.random.default_rng(seed).standard_normal(seen.shape)
    clear, null = _best_named(attacked(material.clear)), _best_named(attacked(noise)[-len(ESTIMATORS) :])
    return attacked(seen), (
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


def _kept_numbers(
    given: AttackInput, material: ReleasedFeatures, seen: Features, before: Features
) -> tuple[AttackResult, ...]:
    """Return attacks by somebody who computes what a bottleneck keeps of any image, as its directions are known."""
    found = evaluate_feature_inversion(
        seen,
        before,
        material.subjects,
        seed=given.seed,
        known=ANCHORS[given.budget][1:],
        draws=given.draws,
        estimators=FEW_NUMBERS,
        naming=closest_is_own,
    )
    return tuple(one.model_copy(update={"name": f"{one.name} to kept numbers"}) for one in found)


def _images(
    given: AttackInput, seen: Features, kept: NDArray[np.bool_]
) -> tuple[RebuiltImages | None, tuple[str, ...]]:
    """Return rebuilt images, or what is missing in the report."""
    try:
        return rebuilt_images(given, seen, kept), ()
    except TooFewSubjectsError:
        return None, ("reconstruction of images (too few subjects)",)
    except ImageReadError:
        return None, ("reconstruction of images (an image cannot be read any more)",)


def _stolen_key(
    given: AttackInput, material: ReleasedFeatures, before: Features, kept: NDArray[np.bool_]
) -> tuple[tuple[AttackResult, ...], str]:
    """Return attacks that have the key or look for its permutation, and what limits the family."""
    if given.run.config.protection.keyed is None:
        return (), ""
    given.progress("the stolen key")
    try:
        releases = tuple(one.of(kept) for one in keyed_releases(given.run, before))
    except KeyFileError:
        return (), "the keys are not beside the run folder, so what a stolen key costs is not shown"
    moved = moved_positions(given, material, releases)
    reason = "; maps have too many positions to match them" if moves_positions(given, releases) and not moved else ""
    try:
        with_key = with_the_key(given, material, releases, known=ANCHORS[given.budget][-1])
    except TooFewSubjectsError:
        return moved, f"there are too few subjects under one key to show what a stolen one costs{reason}"
    return (*with_key, *_rank_rows(with_key), *moved), _WITH_THE_KEY + reason


def _key_by_key(given: AttackInput, material: ReleasedFeatures) -> Features:
    """Give each site's features channels of their own where each has its own key; maps are then learned per key."""
    keyed = given.run.config.protection.keyed
    if keyed is None or keyed.custody == "federation":
        return material.released
    sites, numbers = np.unique(material.attributes["site"], return_inverse=True)
    released = material.released
    apart = np.zeros((len(released), len(sites), *released.shape[1:]), dtype=released.dtype)
    apart[np.arange(len(released)), numbers] = released
    return apart.reshape(len(released), -1, *released.shape[2:])


def _rank_rows(found: Sequence[AttackResult]) -> tuple[AttackResult, ...]:
    """Return the same attacks, judged by how often they name the right features."""
    return tuple(_rank_row(one) for one in found)


def _rank_row(found: AttackResult) -> AttackResult:
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
            "further": tuple(one for one in found.further if one.name == KNOWN_IMAGES),
        }
    )


def _best_named(found: Sequence[AttackResult]) -> AttackResult:
    return max(_rank_rows(found), key=lambda one: one.value)
