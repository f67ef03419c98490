"""One exit code for each thing a caller can do something about."""

from medfl.errors import (
    ConfigError,
    DataError,
    EnrolmentError,
    EnvelopeError,
    FederationError,
    KeyFileError,
    MedFLError,
    NetworkError,
    PlanNotApprovedError,
    RunFolderError,
)
from medfl.governance.ledger_errors import LedgerExhaustedError

OK = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
DATA = 4
NETWORK = 5
AUTHENTICATION = 6
EXHAUSTED = 7
NOT_APPROVED = 8

_CODES: tuple[tuple[type[MedFLError], int], ...] = (
    (LedgerExhaustedError, EXHAUSTED),
    (ConfigError, CONFIGURATION),
    (DataError, DATA),
    (NetworkError, NETWORK),
    (KeyFileError, AUTHENTICATION),
    (EnrolmentError, AUTHENTICATION),
    (EnvelopeError, AUTHENTICATION),
    (PlanNotApprovedError, NOT_APPROVED),
    (FederationError, FAILED),
    (RunFolderError, DATA),
)


def exit_code(error: MedFLError) -> int:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
