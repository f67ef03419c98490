"""Why a site's executor does not answer a question: one word for the hub, a reason for the site's own log."""

from medfl.errors import MedFLError
from medfl.governance.audit_entry import Operation


class Refused(MedFLError):
    """A message is answered with one word.

    Parameters
    ----------
    code : int
        Of the guard; its word is all that the hub sees.
    reason : str
        For the audit log.
    operation : str
        Of the audit log.
    """

    def __init__(self, code: int, reason: str, operation: Operation = "message.refuse") -> None:
        super().__init__(reason)
        self.code, self.reason, self.operation = code, reason, operation
