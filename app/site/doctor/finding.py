"""One thing that was looked at."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    check : str
        Lasting name such as "secrets.modes"; `docs/doctor.md` lists all.
    status : str
        "ok", "warning" (works, but look at it), "problem" (will not work, or is unsafe) or "skipped".
    found : str
        One sentence, without a path to patients, a pseudonym or a secret.
    fix : str
        What to do; empty where nothing is.
    """

    check: str
    status: Status
    found: str
    fix: str = ""


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Return that something should be looked at."""
    return Finding(check, "warning", found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    """Return that something will not work, or is unsafe."""
    return Finding(check, "problem", found, fix)


def skipped(check: str, found: str) -> Finding:
    """Return that something could not be looked at."""
    return Finding(check, "skipped", found)
