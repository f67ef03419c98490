"""Cases as text: what a site keeps about single studies."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from medfl.results.atomic import write_text
from pipelines.pipeline import Case


def write_table(path: Path, cases: Sequence[Case]) -> None:
    """Write cases as CSV, atomically; all have the same columns, at least one is there."""
    columns = list(cases[0])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *([cell(case[name]) for name in columns] for case in cases)])
    write_text(path, text.getvalue())


def cell(value: str | float | None) -> str:
    """Return a value as it stands in the table: six significant digits, empty when undefined."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
