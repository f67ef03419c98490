"""What may be handed to somebody who helps: by lists of what goes in, never by lists of what is taken out.

No key, no image, no manifest, no path, no pseudonym, no name of a person. Text of logs goes in only where a whole line
is one that medfl or Flower is known to write.
"""

import builtins
import json
import os
import platform
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx

from app.site.doctor.examine import examine
from app.site.doctor.finding import Finding
from app.site.settings import SiteSettings, load_settings
from app.site.status import SiteState, site_state
from app.site.supervise import EXECUTOR, SUPERNODE
from medfl import errors
from medfl.errors import AuditLogError, ConfigError
from medfl.federation.guard import WORDS
from medfl.federation.records import CHOOSE, DESCRIBE, EVALUATE, FINISH, RELEASE, SUMS, TRAIN
from medfl.governance.audit_entry import REASONS, Entry
from medfl.governance.audit_log import AuditLog

_PACKAGES = ("medfl", "flwr", "torch", "monai", "numpy", "opacus", "dp-accounting", "pydicom", "cryptography", "httpx")
_LOGS = (f"{EXECUTOR}.log", f"{SUPERNODE}.log")
_POLICY: dict[str, Any] = dict.fromkeys(
    (
        *("tasks", "sharing", "privacy", "protectors", "required_protectors", "clear_features", "targets", "epsilon"),
        *("delta", "minimum_subjects", "reply_bytes", "run_bytes", "approval_days", "retention_days", "gate"),
    ),
    True,
) | {"audit": {"margins", "gallery", "positive_control_auc", "allowed", "decision"}}
_ENTRY = {"when", "operation", "plan_sha256", "run_id", "round", "bytes_out", "epsilon", "verdict", "reason"}
_TOLD = {f"environment.{name}" for name in ("versions", "programs", "disk", "memory", "account")}
_LAST_LINES = 400
_TAIL = 256 * 1024
_DATE = (2020, 1, 1, 0, 0, 0)
_PROGRAM = "medfl"

_WORD = "|".join(sorted({*WORDS.values(), *REASONS}, key=len, reverse=True))
_KINDS = "|".join(map(re.escape, (DESCRIBE, TRAIN, EVALUATE, FINISH, SUMS, CHOOSE, RELEASE)))
_CLASSES = {
    name
    for module in (builtins, errors, httpx)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
_CLASS = "(?:" + "|".join(sorted(_CLASSES, key=len, reverse=True)) + ")"
_KNOWN_LINES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:INFO|WARNING|ERROR) A message was answered with (?:{_WORD}) \((?:{_WORD}|unlisted)\)\.",
        rf"(?:ERROR) The site's program failed with (?:{_WORD})\.",
        rf"(?:ERROR) A (?:message could not be answered|file of the site could not be used) \({_CLASS}\)\.",
        r"(?:INFO )?Starting Flower SuperNode",
        r"(?:INFO )?(?:Received|Sent) successfully",
        rf"(?:INFO )?(?:Receiving|Sending): (?:{_KINDS}) message",
        r"Traceback \(most recent call last\):",
        rf"(?:medfl\.errors\.|httpx\.)?{_CLASS}",
        r"(?:ERROR )?Exit Code: \d{1,4}",
    )
)
_CUT = re.compile(r"\x1b\[[0-9;]*m")
_AFTER = re.compile(r"(message) \(ID: [0-9a-f]{10,64}\)$|^([A-Za-z.]+): .*$")


def write_support_bundle(state: Path, out: Path, now: datetime) -> tuple[str, ...]:
    """Write a zip archive.

    Parameters
    ----------
    state : Path
        The site's folder.
    out : Path
        New file.
    now : datetime
        With a time zone.

    Returns
    -------
    tuple of str
        Names of what is in it.

    Raises
    ------
    ConfigError
        If the file is there already or cannot be written, or there is no such site.
    """
    settings = load_settings(state)
    people = _People()
    content: dict[str, Any] = {
        "versions.json": _versions(),
        "settings.json": _settings(settings),
        "status.json": _status(site_state(state, now.date()), people),
        "doctor.json": [_finding(one) for one in examine(state, now, is_offline=True, with_step=False)],
        "audit.json": _audit(settings, people),
        "logs.json": {name: _lines(settings.state / "logs" / name) for name in _LOGS},
    }
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in content.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), json.dumps(value, indent=1))
    except OSError as error:
        raise ConfigError(f"--out must be a new file that can be written; it is not ({error.strerror}).") from error
    return tuple(content)


def _finding(one: Finding) -> dict[str, str]:
    """Return a finding; only what is said of the machine is free of names."""
    said = one.found if one.check in _TOLD else ""
    return {"check": one.check, "status": one.status, "found": said}


class _People:
    """Numbers instead of names of people."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def number(self, name: str) -> str:
        return name if name in ("", _PROGRAM) else self._numbers.setdefault(name, f"person-{len(self._numbers) + 1}")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _settings(settings: SiteSettings) -> dict[str, Any]:
    policy = settings.policy.model_dump(mode="json", include=_POLICY)
    return {
        "policy": policy,
        "worker": settings.worker.model_dump(mode="json"),
        "hub_in_settings": bool(settings.hub),
        "proxy": bool(settings.proxy.get_secret_value()),
        "own_cache": settings.data.cache is not None,
    }


def _status(state: SiteState, people: _People) -> dict[str, Any]:
    running, log = state.running, state.log
    return {
        "enrolled": state.hub is not None,
        "phase": "" if running is None else running.phase,
        "programs": []
        if running is None
        else [{"name": one.name, "restarts": one.restarts, "last_exit": one.last_exit} for one in running.programs],
        "missing": list(state.missing),
        "paused_by": "" if state.pause is None else people.number(state.pause.by),
        "plans": None
        if state.plans is None
        else [{"sha256": one.sha256, "state": one.state, "by": people.number(one.by)} for one in state.plans],
        "log": None if log is None else {"entries": log.entries, "sound": log.is_sound, "bytes_out": log.bytes_out},
        "withdrawn": state.withdrawn,
        "overdue": state.overdue,
        "ledger": state.has_ledger,
        "problems": len(state.problems),
    }


def _audit(settings: SiteSettings, people: _People) -> list[dict[str, Any]] | str:
    try:
        entries = AuditLog(settings.audit_log).entries()
    except AuditLogError:
        return "cannot be read"
    return [_entry(entry, people) for entry in entries]


def _entry(entry: Entry, people: _People) -> dict[str, Any]:
    return entry.model_dump(mode="json", include=_ENTRY) | {"who": people.number(entry.who)}


def _lines(path: Path) -> Mapping[str, Any]:
    """Return the known lines at the end of a log, and how many others there were."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return {"lines": [], "others": 0, "readable": False}
    known, others = [], Counter[str]()
    for line in text.splitlines():
        bare = re.sub(r"^(INFO|WARNING|ERROR)\s*:\s+", r"\1 ", _CUT.sub("", line).strip())
        bare = _AFTER.sub(lambda match: match[1] or match[2], bare)
        if any(pattern.fullmatch(bare) for pattern in _KNOWN_LINES):
            known.append(bare)
        elif bare:
            others["others"] += 1
    return {"lines": known[-_LAST_LINES:], "others": others["others"], "readable": True}
