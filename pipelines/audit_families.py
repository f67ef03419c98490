"""One function per family of attacks beside re-identification: from a run to its outcome."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medfl.attacks.attributes import evaluate_attribute
from medfl.attacks.division import divide
from medfl.attacks.feature_inversion import evaluate_feature_inversion
from medfl.attacks.key_hygiene import evaluate_key_hygiene
from medfl.attacks.linkage import evaluate_linkage
from medfl.audit.material import ReleasedFeatures
from medfl.audit.nulls import HIGHEST_Z, from_chance
from medfl.errors import TooFewSubjectsError
from medfl.results.attack import AttackResult, Control, Family
from medfl.results.report import Budget, FamilyOutcome
from pipelines.audit_material import AuditedRun, keys_of, released_under_other_keys

DRAWS: Mapping[Budget, int] = {"quick": 300, "standard": 1000, "full": 2000}
_ANCHORS: Mapping[Budget, tuple[int, ...]] = {
    "quick": (4, 64),
    "standard": (4, 16, 64, 256),
    "full": (4, 16, 64, 256, 1024),
}
_LEAST_LINKED = 0.6
_LEAST_NAMED = 0.5
_LEAST_TOLD = 0.6


@dataclass(frozen=True, eq=False)
class AttackInput:
    """What every family gets.

    Attributes
    ----------
    run : AuditedRun
    material : ReleasedFeatures or None
        All features that left for training.
    one_class : ReleasedFeatures or None
        Those of the class with most subjects that can be linked.
    budget : str
    seed : int
    """

    run: AuditedRun
    material: ReleasedFeatures | None
    one_class: ReleasedFeatures | None
    budget: Budget
    seed: int

    @property
    def draws(self) -> int:
        """Draws of subjects for intervals."""
        return DRAWS[self.budget]


Attack = Callable[[AttackInput], FamilyOutcome]


def linkage(given: AttackInput) -> FamilyOutcome:
    """Link what was released with the same studies under keys made for the purpose."""
    run, material = given.run, given.material
    if run.config.protection.keyed is None:
        return _not_applicable("linkage", "no key was used, so there are no releases under different keys")
    if material is None:
        return without_features("linkage", run)
    other = released_under_other_keys(run)
    anchors, draws, seed = _ANCHORS[given.budget], given.draws, given.seed
    attacks = evaluate_linkage(material.released, other, material.subjects, seed=seed, draws=draws, anchors=anchors)
    clear = evaluate_linkage(material.clear, material.clear, material.subjects, seed=seed, draws=draws, anchors=(4,))[0]
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal(material.released.shape) for _ in range(2)]
    null = evaluate_linkage(noise[0], noise[1], material.subjects, seed=seed, draws=draws, anchors=(4,))[0]
    controls = (
        _control(
            "linkage", "positive", "clear features on both sides", clear, clear.value >= _LEAST_LINKED, "0.6 or more"
        ),
        _control(
            "linkage",
            "null",
            "random features on both sides",
            null,
            from_chance(null) < HIGHEST_Z,
            "within 2.58 standard errors of 0.5",
        ),
    )
    return FamilyOutcome(
        family="linkage",
        status="run",
        attacks=attacks,
        headline=tuple(range(len(attacks))),
        controls=controls,
        not_tried=("maps, position by position",) if material.released.ndim > 2 else (),
    )


def inversion(given: AttackInput) -> FamilyOutcome:
    """Map released features back to clear ones, knowing some pairs."""
    material = given.one_class
    if material is None:
        return without_features("inversion", given.run)
    known, draws, seed = _ANCHORS[given.budget][1:], given.draws, given.seed
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
        _control(
            "inversion", "positive", "clear features as release", clear, clear.value >= _LEAST_NAMED, "0.5 or more"
        ),
        _control(
            "inversion",
            "null",
            "random features",
            null,
            null.ci_low <= null.chance,
            "an interval that reaches down to guessing",
        ),
    )
    return FamilyOutcome(
        family="inversion",
        status="run",
        reason="closed-form attacks on features",
        attacks=tuple(rows),
        headline=tuple(range(len(found), len(rows))),
        controls=controls,
        not_tried=("reconstruction of images", "a stolen key"),
    )


def attributes(given: AttackInput) -> FamilyOutcome:
    """Tell what the manifest says of each study; the class label alone is the baseline."""
    material = given.material
    if material is None:
        return without_features("attributes", given.run)
    test = divide(material.subjects, given.seed).is_test
    attacks: list[AttackResult] = []
    controls: list[Control] = []
    positive: list[AttackResult] = []
    left_out = []
    for name, values in sorted(material.attributes.items()):
        stated = values != ""
        if len(np.unique(values[stated])) < 2:
            continue
        known, unseen = material.rows(stated & ~test), material.rows(stated & test)
        try:
            found, own = _told(known, unseen, name, given, clear=False)
            seen, _ = _told(known, unseen, name, given, clear=True)
        except TooFewSubjectsError as error:
            left_out.append(f"{name}: {error}")
            continue
        attacks += found
        controls += own
        positive.append(_chosen(seen))
    if not attacks:
        reason = "; ".join(left_out) or "the manifest states no attribute with two values"
        return FamilyOutcome(family="attributes", status="not run", reason=reason)
    best = max(positive, key=lambda one: one.validation or 0.0)
    controls.append(
        _control(
            "attributes",
            "positive",
            f"{best.setting} from clear features",
            best,
            best.ci_low > 0.5 and best.value >= _LEAST_TOLD,
            "0.6 or more",
        )
    )
    return FamilyOutcome(
        family="attributes",
        status="run",
        reason="; ".join(left_out),
        attacks=tuple(attacks),
        headline=tuple(range(len(attacks))),
        controls=tuple(controls),
    )


def key_hygiene(given: AttackInput) -> FamilyOutcome:
    """Search the run folder for the keys that were used."""
    secrets = keys_of(given.run)
    if not secrets:
        return _not_applicable("key hygiene", "no key was used")
    attacks, controls = evaluate_key_hygiene(given.run.store.folder, secrets)
    return FamilyOutcome(family="key hygiene", status="run", attacks=attacks, headline=(0,), controls=controls)


def gradient_inversion(given: AttackInput) -> FamilyOutcome:
    """Say whether there is an update to invert."""
    if given.run.config.sharing == "features" and given.run.config.head_at == "hub":
        return _not_applicable("gradient inversion", "the head was trained at the hub, no weight update left a site")
    reason = "an audit does not invert weight updates yet"
    return FamilyOutcome(family="gradient inversion", status="not run", reason=reason)


OTHER_FAMILIES: Mapping[Family, Attack] = {
    "linkage": linkage,
    "inversion": inversion,
    "gradient inversion": gradient_inversion,
    "attributes": attributes,
    "key hygiene": key_hygiene,
}


def _told(
    known: ReleasedFeatures, unseen: ReleasedFeatures, name: str, given: AttackInput, *, clear: bool
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    return evaluate_attribute(
        known.clear if clear else known.released,
        known.subjects,
        known.attributes[name],
        unseen.clear if clear else unseen.released,
        unseen.subjects,
        unseen.attributes[name],
        name=name,
        labels=(known.labels, unseen.labels) if len(np.unique(known.labels)) > 1 else None,
        seed=given.seed,
        draws=given.draws,
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


def _chosen(found: Sequence[AttackResult]) -> AttackResult:
    return max(found, key=lambda one: one.validation or 0.0)


def _control(family: Family, kind: str, name: str, found: AttackResult, passed: bool, expected: str) -> Control:
    return Control.model_validate(
        {
            "family": family,
            "kind": kind,
            "name": f"{name}: {found.name}",
            "metric": found.metric,
            "value": found.value,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "expected": expected,
            "passed": passed,
        }
    )


def without_features(family: Family, run: AuditedRun) -> FamilyOutcome:
    """Say of a run that released no features for training whether there will be any for predictions."""
    reason = "no features left a site for training"
    if run.config.sharing == "features":
        return FamilyOutcome(family=family, status="not run", reason=f"{reason}; they do for predictions")
    return _not_applicable(family, reason)


def _not_applicable(family: Family, reason: str) -> FamilyOutcome:
    return FamilyOutcome(family=family, status="not applicable", reason=reason)
