"""CSV tables that are either the old or the new one, never half of one."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from medfl.results.atomic import write_text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    r"""Replace `path` by one UTF-8 CSV table (comma, double quotes, ``\n``) in one step.

    Parameters
    ----------
    path : Path
        File to create or replace; its folder is created.
    header : sequence of str
        Column names.
    rows : iterable of sequence of str
        One sequence per line, as long as `header`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
