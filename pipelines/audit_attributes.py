"""What released features tell of the manifest's attributes, in an audit."""

from collections.abc import Sequence

import numpy as np

from medfl.attacks.attributes import evaluate_attribute
from medfl.attacks.division import divide
from medfl.audit.findings import Findings
from medfl.audit.material import ReleasedFeatures
from medfl.errors import TooFewSubjectsError
from medfl.results.attack import AttackResult, Control
from medfl.results.report import FamilyOutcome
from pipelines.audit_input import AttackInput, control, not_run, without_features

_LEAST_TOLD = 0.6


def attributes(given: AttackInput) -> Findings:
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
        return not_run("attributes", reason)
    best = max(positive, key=lambda one: one.validation or 0.0)
    controls.append(
        control(
            "attributes",
            "positive",
            f"{best.setting} from clear features",
            best,
            best.ci_low > 0.5 and best.value >= _LEAST_TOLD,
            "0.6 or more",
        )
    )
    return Findings(
        outcome=FamilyOutcome(
            family="attributes",
            status="run",
            reason="; ".join(left_out),
            attacks=tuple(attacks),
            headline=tuple(range(len(attacks))),
            controls=tuple(controls),
        )
    )


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


def _chosen(found: Sequence[AttackResult]) -> AttackResult:
    return max(found, key=lambda one: one.validation or 0.0)
