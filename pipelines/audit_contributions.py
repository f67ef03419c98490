"""What each study adds to the measures that a site sends, in an audit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.config.settings import Config
from medfl.evaluation.classification import brier_scores
from medfl.evaluation.reliability import BINS
from medfl.evaluation.score_histogram import score_cells
from medfl.evaluation.segmentation import CASE_FIELDS
from pipelines.classification import JudgedStudy
from pipelines.pipeline import Arrays

Floats = NDArray[np.float64]
Terms = Iterator[tuple[NDArray[Any], Floats]]
_LAYOUT = (".low", ".high", "reliability.start", "reliability.stop", "suppressed")


def layout_of(released: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, bytes], ...]:
    """Return what decides which sums a release consists of: names and cells, no values."""
    return tuple((name, array.tobytes() if name.endswith(_LAYOUT) else b"") for name, array in sorted(released.items()))


def additive(released: Arrays, judged: Sequence[Any], config: Config) -> tuple[Floats, Floats]:
    """Return the sums of a release, and what each study would add to each.

    Parameters
    ----------
    released : dict of str to ndarray
        What `Pipeline.measures` returned; its cells are used for the studies, too.
    judged : sequence
        What `Pipeline.judge` returned, of n studies.
    config : Config

    Returns
    -------
    totals : ndarray of shape (D,)
    contributions : ndarray of shape (n, D)
    """
    names = list(config.task.classes)
    if config.task.kind == "segmentation":
        terms = list(_segmentation(released, np.stack(judged), names))
    else:
        terms = list(_classification(released, judged, names))
    totals = np.concatenate([np.ravel(total) for total, _ in terms]).astype(np.float64)
    return totals, np.concatenate([columns for _, columns in terms], axis=1)


def judged_in_table(row: Mapping[str, str], config: Config) -> JudgedStudy | Floats:
    """Return what `Pipeline.judge` returned for a study, from the site's table of cases (six digits)."""
    names = list(config.task.classes)
    if config.task.kind == "segmentation":
        cells = [[row[f"{field}/{name}"] for field in CASE_FIELDS] for name in names]
        return np.array([[float(cell) if cell else np.nan for cell in line] for line in cells])
    values = np.array([float(row[f"probability/{name}"]) for name in names])
    return JudgedStudy(values / values.sum(), int(float(row["label"])))


def _segmentation(released: Arrays, rows: Floats, names: Sequence[str]) -> Terms:
    for position, name in enumerate(names):
        values = dict(zip(CASE_FIELDS, rows[:, position].T, strict=True))
        present = values["tp"] + values["fn"] > 0
        found = present & (values["tp"] + values["fp"] > 0)
        columns = {
            "voxels": np.column_stack([values["tp"], values["fp"], values["fn"]]),
            "missed": np.column_stack([present & ~found, present]),
            "absent_false_positive": np.column_stack([~present & (values["fp"] > 0), ~present]),
            "absent_ml": _weighted(values["false_positive_ml"], ~present),
        }
        columns |= {key: _weighted(values[key], present) for key in ("dice", "iou")}
        columns |= {key: _weighted(values[key], found) for key in ("hd95_mm", "msd_mm", "nsd")}
        for key, own in columns.items():
            total = released.get(f"{key}/{name}.totals")
            if total is not None:
                yield total, own.astype(np.float64)


def _classification(released: Arrays, judged: Sequence[JudgedStudy], names: Sequence[str]) -> Terms:
    values = np.stack([one.probabilities for one in judged])
    labels = np.array([one.label for one in judged])
    kept = released["subjects"][labels] > 0
    predicted, confidence = values.argmax(axis=1), values.max(axis=1)
    yield released["counts"], _marked(labels * len(names) + predicted, len(names) ** 2, kept)
    yield released["brier.totals"], _weighted(brier_scores(values, labels), kept)
    bins = np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")
    stops = released["reliability.stop"]
    group = _marked(np.searchsorted(stops, bins, side="right"), len(stops), kept)
    yield released["reliability.studies"], group
    yield released["reliability.correct"], group * (predicted == labels)[:, None]
    yield released["reliability.confidence"], group * confidence[:, None]
    for position, name in enumerate(names):
        for side, is_positive in (("positives", True), ("negatives", False)):
            counts = released.get(f"{side}/{name}.counts")
            if counts is None or not len(counts):
                continue
            low, high = released[f"{side}/{name}.low"], released[f"{side}/{name}.high"]
            cells = score_cells(values[:, position])
            index = np.maximum(np.searchsorted(low, cells, side="right") - 1, 0)
            inside = kept & ((labels == position) == is_positive) & (cells >= low[index]) & (cells < high[index])
            yield counts, _marked(index, len(counts), inside)


def _weighted(values: Floats, members: NDArray[np.bool_]) -> Floats:
    return np.column_stack([np.where(members, values, 0.0), members]).astype(np.float64)


def _marked(index: NDArray[np.integer], size: int, members: NDArray[np.bool_]) -> Floats:
    """Return (n, size): 1 at each member's index."""
    marks = np.zeros((len(index), size))
    rows = np.flatnonzero(members)
    marks[rows, index[rows]] = 1.0
    return marks
