"""Everything medfl raises on purpose.

The tree; the command line maps each branch to one exit code::

    MedFLError
    ├── ConfigError            a setting is missing, unknown or out of range   (also ValueError)
    ├── ShapeError             arrays that do not fit together                 (also ValueError)
    ├── DataError              images, targets or manifests
    │   ├── ImageReadError     one file cannot become a Volume; carries a reason code
    │   └── ManifestError      the manifest itself is not usable
    ├── NetworkError           a download or a connection failed
    ├── FederationError        a federated run cannot go on
    │   └── ReplyError         one site's reply was refused; carries a reason code
    ├── PlanNotApprovedError   a site was asked for something that its administrator did not approve; carries a reason
    ├── EnrolmentError         a request or answer of an enrolment cannot be trusted; carries a reason code
    ├── EgressError            a reply holds something that the approved plan does not let out; carries a reason code
    ├── AuditLogError          the audit log cannot be written or read; nothing may leave
    ├── TooFewSubjectsError    a number would describe fewer subjects than the site allows
    ├── PrivacyError           a protection cannot do what it is asked to; nothing was released
    │   ├── KeyFileError       a key is missing, unsafe, wrong, expired, revoked or used up
    │   └── EnvelopeError      a sealed release was changed, or is meant for somebody else
    ├── AuditError             an audit, its report or its signature cannot be used
    └── RunFolderError         a run folder is missing a file, or holds something unreadable

Messages say what must hold, what was found and what to do. They never hold a patient value, a key or the path
to a patient folder.
"""


class MedFLError(Exception):
    """Base of every error that medfl raises on purpose."""


class ConfigError(MedFLError, ValueError):
    """A setting is missing, unknown or out of range."""


class ShapeError(MedFLError, ValueError):
    """Arrays do not have the shapes that the operation needs."""


class DataError(MedFLError):
    """Images, targets or manifests that cannot be used."""


class ImageReadError(DataError):
    """One image cannot be read.

    Parameters
    ----------
    reason : str
        Stable, machine-readable code such as ``"truncated"``; it goes into quarantine tables.
    message : str
        What must hold and what was found, without a path or a patient value.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageReadError"], tuple[str, str]]:
        """Travel between processes with both arguments."""
        return (type(self), (self.reason, str(self)))


class ManifestError(DataError):
    """The manifest breaks its schema."""


class NetworkError(MedFLError):
    """A download or a connection failed."""


class FederationError(MedFLError):
    """A federated run cannot go on."""


class ReplyError(FederationError):
    """One site's reply was refused.

    Parameters
    ----------
    reason : str
        Stable code such as ``"not_finite"``; it goes into the run's history.
    message : str
        What must hold and what was found.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PlanNotApprovedError(MedFLError):
    """A site was asked for something that its administrator did not approve.

    Parameters
    ----------
    reason : str
        Stable code: "not_approved", "revoked", "expired", "changed", "over_policy" or "gate".
    message : str
        What must hold and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["PlanNotApprovedError"], tuple[str, str]]:
        """Travel between processes with both arguments."""
        return (type(self), (self.reason, str(self)))


class EnrolmentError(MedFLError):
    """A request or answer of an enrolment cannot be trusted, or is missing.

    Parameters
    ----------
    reason : str
        Stable code: "not_enrolled", "unreadable", "signature", "fingerprint", "site" or "key".
    message : str
        What must hold, what was found and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["EnrolmentError"], tuple[str, str]]:
        """Travel between processes with both arguments."""
        return (type(self), (self.reason, str(self)))


class EgressError(MedFLError):
    """A reply holds something that the approved plan does not let out.

    Parameters
    ----------
    reason : str
        Stable code such as ``"unknown_array"``; it goes into the audit log.
    message : str
        What must hold and what was found, without a value of the reply.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["EgressError"], tuple[str, str]]:
        """Travel between processes with both arguments."""
        return (type(self), (self.reason, str(self)))


class AuditLogError(MedFLError):
    """The audit log cannot be written or read; nothing may leave."""


class TooFewSubjectsError(MedFLError):
    """A number would describe fewer subjects than the site allows."""


class PrivacyError(MedFLError):
    """A protection cannot do what it is asked to; nothing was released."""


class KeyFileError(PrivacyError):
    """A key is missing, unsafe, wrong, expired, revoked or used up."""


class EnvelopeError(PrivacyError):
    """A sealed release was changed on its way, or is meant for somebody else."""


class AuditError(MedFLError):
    """An audit cannot be made, or its report or signature cannot be used."""


class RunFolderError(MedFLError):
    """A run folder is missing a file, or holds something unreadable."""
