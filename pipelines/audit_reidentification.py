"""Re-identification of released features, in an audit."""

from medfl.attacks.division import divide
from medfl.audit.findings import Findings
from medfl.audit.reidentification_family import audit_reidentification
from pipelines.audit_input import AttackInput, without_features


def reidentification(given: AttackInput) -> Findings:
    """Tell whether two studies of one class are of one person."""
    material = given.one_class
    if material is None:
        return without_features("re-identification", given.run)
    return audit_reidentification(
        material,
        divide(material.subjects, given.seed),
        given.policy,
        seed=given.seed,
        draws=given.draws,
        progress=given.progress,
    )
