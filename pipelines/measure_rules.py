"""Which sums of a split may leave a site: names, shapes and types of the arrays that metrics are computed from."""

from dataclasses import fields

from medfl.config.settings import Config
from medfl.config.task import Segmentation
from medfl.evaluation.classification import ClassificationTask
from medfl.evaluation.classification_sums import BRIER_COLUMNS
from medfl.evaluation.reliability import BINS, ReliabilityBins
from medfl.evaluation.score_histogram import CELLS
from medfl.evaluation.segmentation import SegmentationTask
from medfl.governance.egress import ArrayRule

_INTEGER, _FLOAT = "int64", "float64"
_FLOAT_BINS = ("confidence", "resolution")


def measure_rules(config: Config) -> tuple[ArrayRule, ...]:
    """Return the arrays of one split's measures.

    Parameters
    ----------
    config : Config
    """
    task, minimum = config.task, config.evaluation.minimum_subjects
    if isinstance(task, Segmentation):
        measured = SegmentationTask(
            class_names=tuple(task.classes), tolerance_mm=task.surface_tolerance_mm, min_subjects=minimum
        )
        return tuple(rule for key, names in measured.schema().items() for rule in _block(key, len(names)))
    return _classification(ClassificationTask(class_names=tuple(task.classes), min_subjects=minimum))


def _block(key: str, columns: int) -> tuple[ArrayRule, ...]:
    """Return the four arrays of a `MeasureBlock`."""
    return (
        ArrayRule(name=f"{key}.n_subjects", shape=(1,), dtype=_INTEGER),
        ArrayRule(name=f"{key}.totals", shape=(columns,), dtype=_FLOAT),
        ArrayRule(name=f"{key}.covariance", shape=(columns, columns), dtype=_FLOAT),
        ArrayRule(name=f"{key}.resolution", shape=(columns,), dtype=_FLOAT),
    )


def _classification(task: ClassificationTask) -> tuple[ArrayRule, ...]:
    classes = len(task.class_names)
    rules = [
        ArrayRule(name="counts", shape=(classes, classes), dtype=_INTEGER),
        ArrayRule(name="subjects", shape=(classes,), dtype=_INTEGER),
        ArrayRule(name="suppressed", shape=(classes,), dtype=_INTEGER),
        ArrayRule(name="design", shape=(classes,), dtype=_FLOAT),
        *_block("brier", len(BRIER_COLUMNS)),
    ]
    for field in fields(ReliabilityBins):
        dtype = _FLOAT if field.name in _FLOAT_BINS else _INTEGER
        rules.append(ArrayRule(name=f"reliability.{field.name}", shape=(None,), dtype=dtype, longest=BINS))
    for side in ("positives", "negatives"):
        for position in task.scored:
            key = f"{side}/{task.class_names[position]}"
            rules += [
                ArrayRule(name=f"{key}.{part}", shape=(None,), dtype=_INTEGER, longest=CELLS)
                for part in ("low", "high", "counts")
            ]
            rules.append(ArrayRule(name=f"{key}.n_subjects", shape=(1,), dtype=_INTEGER))
            rules.append(ArrayRule(name=f"{key}.design", shape=(1,), dtype=_FLOAT))
    return tuple(rules)
