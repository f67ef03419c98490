"""The site's cases as plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["segmentation", "classification"]

_TEXTS = ("site", "subject", "study", "split", "visit_date", "sex", "age", "scanner", "prediction")
_MOST = 100_000


@dataclass(frozen=True)
class Case:
    """One study.

    Attributes
    ----------
    site, subject, study, split : str
    visit_date, sex, age, scanner : str
        As in the manifest; "" where it does not say.
    prediction : str
        File below the run folder; "" where none was kept.
    numbers : mapping of str to float
        Columns with a finite number, for example "dice/left" or "entropy".
    """

    site: str
    subject: str
    study: str
    split: str
    visit_date: str
    sex: str
    age: str
    scanner: str
    prediction: str
    numbers: Mapping[str, float]

    @property
    def dice(self) -> float | None:
        """Mean Dice over the classes that have one."""
        found = [value for name, value in self.numbers.items() if name.startswith("dice/")]
        return sum(found) / len(found) if found else None

    @property
    def is_right(self) -> bool | None:
        """Whether the predicted class is the one of the reference; None where there is no such thing."""
        value = self.numbers.get("is_correct")
        return None if value is None else value > 0.5

    @property
    def score(self) -> float | None:
        """Dice, or 1 for right and 0 for wrong."""
        right = self.is_right
        return self.dice if right is None else float(right)


@dataclass(frozen=True)
class CaseTable:
    """All cases of one run folder.

    Attributes
    ----------
    kind : str
    classes : tuple of str
        In the order of the table.
    cases : tuple of Case
    left_out : int
        Lines without site or study, or beyond the 100,000th.
    """

    kind: Kind
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    left_out: int = 0

    def sites(self) -> tuple[str, ...]:
        """Return every site once, sorted."""
        return tuple(sorted({case.site for case in self.cases}))

    def of_site(self, site: str) -> tuple[Case, ...]:
        """Return the cases of a site."""
        return tuple(case for case in self.cases if case.site == site)

    def find(self, site: str, study: str) -> Case | None:
        """Return one case."""
        return next((case for case in self.cases if (case.site, case.study) == (site, study)), None)


def case_table(rows: Sequence[Mapping[str, str | None]]) -> CaseTable:
    """Return the rows of `cases.csv` as values.

    Parameters
    ----------
    rows : sequence of mapping
        Column to text.

    Raises
    ------
    ValueError
        If the rows have no columns "site" and "study".
    """
    columns = [name for name in (rows[0] if rows else {}) if isinstance(name, str)]
    if rows and not {"site", "study"} <= set(columns):
        raise ValueError("cases.csv must have the columns site and study.")
    numeric = [name for name in columns if name not in _TEXTS]
    cases = [_case(row, numeric) for row in rows[:_MOST] if row.get("site") and row.get("study")]
    kind: Kind = "classification" if any(name.startswith("probability/") for name in columns) else "segmentation"
    prefix = "probability/" if kind == "classification" else "dice/"
    classes = tuple(name.removeprefix(prefix) for name in columns if name.startswith(prefix))
    return CaseTable(kind, classes, tuple(cases), len(rows) - len(cases))


def quantile_of(value: float, among: Sequence[float]) -> float:
    """Return which share of numbers is below a value; half of those that are equal to it count."""
    numbers = np.asarray(among, dtype=np.float64)
    return float(np.mean(numbers < value) + 0.5 * np.mean(numbers == value)) if len(numbers) else 0.5


def _case(row: Mapping[str, str | None], numeric: Sequence[str]) -> Case:
    texts = {name: (row.get(name) or "") for name in _TEXTS}
    numbers = {name: value for name in numeric if (value := _number(row.get(name))) is not None}
    return Case(
        site=texts["site"],
        subject=texts["subject"],
        study=texts["study"],
        split=texts["split"],
        visit_date=texts["visit_date"],
        sex=texts["sex"],
        age=texts["age"],
        scanner=texts["scanner"],
        prediction=texts["prediction"],
        numbers=numbers,
    )


def _number(text: object) -> float | None:
    try:
        value = float(text) if isinstance(text, str) and text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
