"""What stops a site's ledger: it cannot be trusted, it cannot be reached, or its budget is used up."""

from medfl.errors import PrivacyError


class LedgerError(PrivacyError):
    """The ledger cannot be trusted or asked for this; nothing may be released."""


class LedgerUnreachableError(LedgerError):
    """The ledger may be sound, but cannot be read or written now."""


class LedgerExhaustedError(LedgerError):
    """A release would cost more than the budget allows; the model of the last allowed round stands."""


def distrusted(reason: str) -> LedgerError:
    """Return the error of a ledger that is not as it was left, with what to do."""
    return LedgerError(f"{reason} Nothing may be released; keep the files and see 'medfl ledger restore'.")
