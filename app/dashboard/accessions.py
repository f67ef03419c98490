"""The site's own table from accession numbers to pseudonyms; it lies in the state folder and is never copied."""

import csv
from pathlib import Path

from medfl.errors import DataError

_NAME = "accessions.csv"
_COLUMNS = {"accession", "pseudonym"}
_LARGEST = 256_000_000


def study_of(site: Path, accession: str) -> str | None:
    """Return the pseudonym of a study or a subject; None where the number does not stand in the table.

    Parameters
    ----------
    site : Path
        The site's state folder. `accessions.csv` in it has the columns accession and pseudonym.
    accession : str
        Blanks around it do not matter.

    Raises
    ------
    DataError
        If there is no such table, it cannot be read, or others than its owner may read it.
    """
    path, wanted = site / _NAME, accession.strip()
    try:
        facts = path.stat()
        if facts.st_mode & 0o077:
            raise DataError(f"Only its owner may read {_NAME}; others can. Run: chmod 600 {_NAME}")
        if facts.st_size > _LARGEST:
            raise DataError(f"{_NAME} must be smaller than 256 MB; it is not.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not set(reader.fieldnames or ()) >= _COLUMNS:
                raise DataError(f"{_NAME} must have the columns accession and pseudonym; it has not.")
            for row in reader:
                if (row["accession"] or "").strip() == wanted:
                    return (row["pseudonym"] or "").strip() or None
            return None
    except FileNotFoundError as error:
        raise DataError(f"{_NAME} must lie in the site's state folder; it does not.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{_NAME} must be a readable CSV table in UTF-8; it is not.") from error
