"""Files that were set aside, with the reason: a table that stays at the site and may name files."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medfl.data.table import write_csv

COLUMNS = ("file", "reason", "sentence")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One file that was set aside.

    Attributes
    ----------
    file : str
        Where it is, starting with the name of the folder that was imported. May hold a patient's name: it belongs in
        the table at the site, never in a message.
    reason : str
        Stable code, such as ``"truncated"`` or ``"no_target"``.
    sentence : str
        What must hold and what was found.
    """

    file: str
    reason: str
    sentence: str


def write_quarantine(entries: Iterable[Quarantined], path: Path) -> None:
    """Write the table in one step, an empty one if nothing was set aside.

    Parameters
    ----------
    entries : iterable of Quarantined
    path : Path
        CSV file to create or replace.
    """
    rows = sorted((_printable(entry.file), entry.reason, entry.sentence) for entry in entries)
    write_csv(path, COLUMNS, rows)


def count_reasons(entries: Iterable[Quarantined]) -> dict[str, int]:
    """Return how many files were set aside for each reason, most frequent first."""
    return dict(sorted(Counter(entry.reason for entry in entries).items(), key=lambda pair: (-pair[1], pair[0])))


def _printable(name: str) -> str:
    """Return a file name as UTF-8 can hold it; bytes that are no text become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
