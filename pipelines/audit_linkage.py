"""Linkage of releases under different keys, in an audit."""

import numpy as np

from medfl.attacks.linkage import evaluate_linkage
from medfl.audit.curves import anchor_curves
from medfl.audit.findings import Findings
from medfl.audit.nulls import HIGHEST_Z, from_chance
from medfl.results.report import FamilyOutcome
from pipelines.audit_input import ANCHORS, AttackInput, control, not_applicable, without_features
from pipelines.audit_material import released_under_other_keys

_LEAST_LINKED = 0.6


def linkage(given: AttackInput) -> Findings:
    """Link what was released with the same studies under keys made for the purpose."""
    run, material = given.run, given.material
    if run.config.protection.keyed is None:
        return not_applicable("linkage", "no key was used, so there are no releases under different keys")
    if material is None:
        return without_features("linkage", run)
    other = released_under_other_keys(run)
    anchors, draws, seed = ANCHORS[given.budget], given.draws, given.seed
    attacks = evaluate_linkage(material.released, other, material.subjects, seed=seed, draws=draws, anchors=anchors)
    clear = evaluate_linkage(material.clear, material.clear, material.subjects, seed=seed, draws=draws, anchors=(4,))[0]
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal(material.released.shape) for _ in range(2)]
    null = evaluate_linkage(noise[0], noise[1], material.subjects, seed=seed, draws=draws, anchors=(4,))[0]
    controls = (
        control(
            "linkage", "positive", "clear features on both sides", clear, clear.value >= _LEAST_LINKED, "0.6 or more"
        ),
        control(
            "linkage",
            "null",
            "random features on both sides",
            null,
            from_chance(null) < HIGHEST_Z,
            "within 2.58 standard errors of 0.5",
        ),
    )
    return Findings(
        outcome=FamilyOutcome(
            family="linkage",
            status="run",
            attacks=attacks,
            headline=tuple(range(len(attacks))),
            controls=controls,
            not_tried=("maps, position by position",) if material.released.ndim > 2 else (),
        ),
        curves=anchor_curves(attacks),
    )
