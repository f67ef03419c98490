"""Plans of real runs, for tests that approve or submit them."""

from datetime import date, timedelta

from medfl.config.settings import Config
from medfl.governance.plan import Plan
from pipelines.site_plan import Reasons, propose


def run_plan(config: Config, *sites: str, expires: date | None = None, purpose: str = "test") -> Plan:
    """Return the plan of a run at sites; it ends in 30 days by default."""
    reasons = Reasons(
        protocol="vote 1",
        legal_basis="made-up patients",
        purpose=purpose,
        contact="nobody",
        expires=expires or date.today() + timedelta(days=30),
    )
    return propose(config, reasons, sites)
