"""The time beside a ledger's entries: it informs, their numbers alone give the order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from medfl.governance.ledger_errors import LedgerError

Clock = Callable[[], datetime]
BEHIND = timedelta(minutes=5)
"""How far a clock may run behind the last entry: more is how a machine looks that was put back to an earlier state."""


def utc_now() -> datetime:
    """Return the time of day in UTC."""
    return datetime.now(UTC)


def stamp(clock: Clock) -> str:
    """Return the time as it is recorded, to the second."""
    return clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_clock(clock: Clock, last: str) -> None:
    """Check that a clock is not far behind the last entry.

    Parameters
    ----------
    clock : callable
    last : str
        When that entry was recorded.

    Raises
    ------
    LedgerError
        If it is more than `BEHIND` behind.
    """
    now = stamp(clock)
    if datetime.fromisoformat(now) < datetime.fromisoformat(last) - BEHIND:
        raise LedgerError(
            f"The clock must not run behind the last entry ({last}), found {now}. Set the clock; if the entry's time "
            "was wrong, confirm the present one with 'medfl ledger budget' and a note."
        )
