"""What stands in a run folder, or one reason why it cannot be shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from app.dashboard.case_table import CaseTable, case_table
from app.dashboard.runs import RunEntry
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.errors import AuditError, ConfigError, RunFolderError
from medfl.results.audit_store import AuditStore, parse_report
from medfl.results.history import History
from medfl.results.metrics import RunMetrics
from medfl.results.privacy import PrivacyRecord
from medfl.results.report import AuditReport
from medfl.results.store import RunStore

Problem = Literal["missing", "large", "unreadable", "other version"]
Value = TypeVar("Value")


class Unreadable(Exception):
    """A file that cannot be shown.

    Parameters
    ----------
    problem : str
        "missing", "large", "unreadable", or "other version": it does not follow the schema.
    file : str
        Its name in the run folder.
    """

    def __init__(self, problem: Problem, file: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.problem = problem
        self.file = file


def read_config(run: RunEntry) -> Config:
    """Return the settings of a run.

    Raises
    ------
    Unreadable
    """

    def read() -> Config:
        return parse_config(RunStore(run.folder).read_settings()[0], source="config.yaml")

    return _read(run, "config.yaml", read)


def read_plan_digest(run: RunEntry) -> str:
    """Return the SHA-256 of the plan; "" where it cannot be read."""
    try:
        return str(_read(run, "plan.json", RunStore(run.folder).read_settings)[1].get("sha256", ""))
    except Unreadable:
        return ""


def read_history(run: RunEntry) -> History:
    """Return all finished rounds; none where the first is not finished yet.

    Raises
    ------
    Unreadable
    """
    store = RunStore(run.folder)
    return _read(run, "history.json", store.read_history) if store.has_history() else History()


def read_metrics(run: RunEntry) -> RunMetrics:
    """Return the final metrics.

    Raises
    ------
    Unreadable
    """
    return _read(run, "metrics.json", RunStore(run.folder).read_metrics)


def read_privacy(run: RunEntry) -> PrivacyRecord:
    """Return what left the sites.

    Raises
    ------
    Unreadable
    """
    return _read(run, "privacy.json", RunStore(run.folder).read_privacy)


def read_cases(run: RunEntry) -> CaseTable:
    """Return the cases of the sites whose folder this is.

    Raises
    ------
    Unreadable
    """
    return _read(run, "cases.csv", lambda: case_table(RunStore(run.folder).read_cases()))


def read_card(run: RunEntry) -> str:
    """Return the model card.

    Raises
    ------
    Unreadable
    """
    return _read(run, "model_card.md", RunStore(run.folder).read_model_card)


def read_report(run: RunEntry) -> AuditReport:
    """Return the audit's report; whether it is signed is another question.

    Raises
    ------
    Unreadable
    """
    path = AuditStore.of(run.folder).report
    try:
        if path.stat().st_size > _LARGEST_REPORT:
            raise Unreadable("large", _REPORT)
        return parse_report(path.read_bytes())
    except FileNotFoundError as error:
        raise Unreadable("missing", _REPORT) from error
    except OSError as error:
        raise Unreadable("unreadable", _REPORT) from error
    except AuditError as error:
        raise Unreadable("other version", _REPORT) from error


_REPORT = "audit/report.json"
_LARGEST_REPORT = 64_000_000


def _read(run: RunEntry, name: str, read: Callable[[], Value]) -> Value:
    """Read one file; texts of errors may hold values of the file, so only the kind of an error is kept."""
    if run.is_large(name):
        raise Unreadable("large", name)
    try:
        return read()
    except (RunFolderError, ConfigError) as error:
        raise Unreadable(_problem(error), name) from error
    except (ValueError, KeyError, OSError, RecursionError, UnicodeError) as error:
        raise Unreadable("unreadable", name) from error


def _problem(error: RunFolderError | ConfigError) -> Problem:
    if isinstance(error.__cause__, FileNotFoundError):
        return "missing"
    if isinstance(error, ConfigError) or isinstance(error.__cause__, ValueError):
        return "other version"
    return "unreadable"


def inside(folder: Path, name: str) -> Path | None:
    """Return a place below a folder that a file names; None when it lies outside or is not there."""
    try:
        place = (folder / name).resolve()
        return place if place.is_relative_to(folder.resolve()) and place.is_file() else None
    except (OSError, ValueError):
        return None
