"""Inversion of weight updates, in an audit."""

from medfl.audit.findings import Findings
from pipelines.audit_input import AttackInput, not_applicable, not_run


def gradient_inversion(given: AttackInput) -> Findings:
    """Say whether there is an update to invert."""
    if given.run.config.sharing == "features" and given.run.config.head_at == "hub":
        return not_applicable("gradient inversion", "the head was trained at the hub, no weight update left a site")
    reason = "an audit does not invert weight updates yet"
    return not_run("gradient inversion", reason)
