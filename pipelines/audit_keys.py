"""A search for keys in what a run left behind, in an audit."""

from medfl.attacks.key_hygiene import evaluate_key_hygiene
from medfl.audit.findings import Findings
from medfl.results.report import FamilyOutcome
from pipelines.audit_input import AttackInput, not_applicable
from pipelines.audit_material import keys_of


def key_hygiene(given: AttackInput) -> Findings:
    """Search the run folder for the keys that were used."""
    secrets = keys_of(given.run)
    if not secrets:
        return not_applicable("key hygiene", "no key was used")
    attacks, controls = evaluate_key_hygiene(given.run.store.folder, secrets)
    return Findings(
        outcome=FamilyOutcome(family="key hygiene", status="run", attacks=attacks, headline=(0,), controls=controls)
    )
