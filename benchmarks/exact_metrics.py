"""Compare naive averages of site metrics with exact pooled ones, and time the measuring.

Three simulated sites of unequal size and difficulty. "Naive" is the average of the sites' own metrics weighted by their
number of studies, as most federated code reports it; "exact" is what `medfl.evaluation` finishes from the sites' sums;
"pooled" is scikit-learn or plain arithmetic on all predictions together.

Run ``python benchmarks/exact_metrics.py --out exact_metrics.json``.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as reference

from medfl.evaluation.classification import ClassificationTask
from medfl.evaluation.classification_metrics import finish as finish_classification
from medfl.evaluation.classification_sums import sums_from_predictions
from medfl.evaluation.segmentation import CASE_FIELDS, SegmentationTask, measure_study
from medfl.evaluation.segmentation_metrics import finish as finish_segmentation
from medfl.evaluation.segmentation_sums import blocks_from_studies

Array = NDArray[np.float64]
Row = dict[str, float | str | None]
BINARY = ClassificationTask(("no", "yes"))
ORGAN = SegmentationTask(("organ",))
SITES = ((300, 0.05, 1.0), (120, 0.5, 2.5), (60, 0.8, 0.5))
SUBJECTS_WITH_ORGANS = ((26, 3000, 0.9, 0.0), (16, 400, 0.6, 0.3), (40, 60, 0.75, 0.6))


def expected_calibration_error(labels: Array, scores: Array) -> float:
    """Ten equal bins of the top label's confidence, written out."""
    confidence, right = np.maximum(scores, 1 - scores), (scores > 0.5) == (labels == 1)
    bins = np.ceil(confidence * 10).astype(int)
    gaps = [abs(float((confidence - right)[bins == index].sum())) for index in range(11)]
    return sum(gaps) / len(labels)


def classification_rows(seed: int) -> list[Row]:
    """Naive, exact and pooled metrics of a classifier at sites of different prevalence and difficulty."""
    generator = np.random.default_rng(seed)
    parts: list[tuple[Array, Array]] = []
    for n, prevalence, separation in SITES:
        labels = (generator.random(n) < prevalence).astype(np.float64)
        logits = generator.normal(0, 1.5, n) + separation * (2 * labels - 1)
        parts.append((labels, 1 / (1 + np.exp(-logits))))
    sums = []
    for site, (labels, scores) in enumerate(parts):
        ids = [f"{site}-{i}" for i in range(len(labels))]
        sums.append(sums_from_predictions(ids, np.column_stack([1 - scores, scores]), labels.astype(np.int64), BINARY))
    exact = finish_classification(sums, BINARY, seed=seed)
    functions: dict[str, Callable[[Array, Array], float]] = {
        "accuracy": lambda y, s: float(reference.accuracy_score(y, s > 0.5)),
        "balanced_accuracy": lambda y, s: float(reference.balanced_accuracy_score(y, s > 0.5)),
        "sensitivity": lambda y, s: float(reference.recall_score(y, s > 0.5)),
        "f1": lambda y, s: float(reference.f1_score(y, s > 0.5)),
        "mcc": lambda y, s: float(reference.matthews_corrcoef(y, s > 0.5)),
        "brier": lambda y, s: float(reference.brier_score_loss(y, s)),
        "ece": expected_calibration_error,
        "auroc": lambda y, s: float(reference.roc_auc_score(y, s)),
        "average_precision": lambda y, s: float(reference.average_precision_score(y, s)),
    }
    weights = np.array([n for n, _, _ in SITES])
    labels, scores = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return [
        row(
            name,
            float(np.average([function(*part) for part in parts], weights=weights)),
            exact[name].value,
            function(labels, scores),
            exact[name].error_bound,
        )
        for name, function in functions.items()
    ]


def segmentation_rows(seed: int) -> list[Row]:
    """Naive, exact and pooled Dice where sites differ in organ size, quality and absent organs."""
    generator = np.random.default_rng(seed)
    field = {name: index for index, name in enumerate(CASE_FIELDS)}
    tables: list[Array] = []
    for n, size, quality, absent in SUBJECTS_WITH_ORGANS:
        volume = np.rint(generator.normal(size, size / 6, n).clip(size / 2)) * (generator.random(n) >= absent)
        tp = np.rint(volume * generator.uniform(quality - 0.1, quality + 0.1, n))
        fp = np.rint(generator.uniform(0.05, 0.3, n) * size)
        table = np.full((n, 1, len(CASE_FIELDS)), np.nan)
        fn = volume - tp
        table[:, 0, field["tp"]], table[:, 0, field["fp"]], table[:, 0, field["fn"]] = tp, fp, fn
        present = volume > 0
        whole = np.where(present, 2 * tp + fp + fn, 1)
        table[:, 0, field["dice"]] = np.where(present, 2 * tp / whole, np.nan)
        table[:, 0, field["iou"]] = np.where(present, tp / np.where(present, tp + fp + fn, 1), np.nan)
        for name in ("hd95_mm", "msd_mm", "nsd"):
            table[:, 0, field[name]] = np.where(present, generator.uniform(0.5, 0.99, n), np.nan)
        table[:, 0, field["false_positive_ml"]] = np.where(present, np.nan, fp / 1000)
        tables.append(table)
    sent = [blocks_from_studies([f"{s}-{i}" for i in range(len(t))], t, ORGAN) for s, t in enumerate(tables)]
    exact = finish_segmentation(sent, ORGAN, seed=seed)
    weights = [len(table) for table in tables]
    pool = np.concatenate(tables)[:, 0]

    def pooled_dice(rows: Array) -> float:
        tp, fp, fn = rows[:, field["tp"] : field["fn"] + 1].sum(axis=0)
        return float(2 * tp / (2 * tp + fp + fn))

    def mean_dice(rows: Array) -> float:
        return float(np.nanmean(rows[:, field["dice"]]))

    return [
        row(
            name,
            float(np.average([function(table[:, 0]) for table in tables], weights=weights)),
            exact[f"{name}/organ"].value,
            function(pool),
            exact[f"{name}/organ"].error_bound,
        )
        for name, function in (("dice_mean", mean_dice), ("dice_pooled", pooled_dice))
    ]


def row(name: str, naive: float, exact: float | None, pooled: float, bound: float | None) -> Row:
    """One line of the table."""
    return {"metric": name, "naive": naive, "exact": exact, "pooled": pooled, "error_bound": bound}


def milliseconds(predicted: NDArray[np.uint8], reference_map: NDArray[np.uint8], repeats: int) -> float:
    """Median time to measure one study."""
    task = SegmentationTask(tuple(f"class {label}" for label in range(1, int(reference_map.max()) + 1)))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        measure_study(predicted, reference_map, spacing_mm=(1.0,) * predicted.ndim, task=task)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds) * 1000)


def ellipsoids(shape: tuple[int, ...], labels: int) -> NDArray[np.uint8]:
    """Label map with one ellipsoid per label, side by side along the second axis."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    result = np.zeros(shape, dtype=np.uint8)
    for label in range(1, labels + 1):
        centre = (2 * label - 1 - labels) / (labels + 1)
        radius = sum(((axis - (centre if i == 1 else 0.0)) / 0.35) ** 2 for i, axis in enumerate(grid))
        result[radius < 1] = label
    return result


def timings(repeats: int) -> dict[str, float]:
    """Milliseconds per study for a hippocampus-sized volume with 2 foreground classes and a 96 x 96 slice with one."""
    volume, picture = ellipsoids((35, 50, 36), 2), ellipsoids((96, 96), 1)
    return {
        "volume_35x50x36_ms": milliseconds(np.roll(volume, 1, axis=0), volume, repeats),
        "slice_96x96_ms": milliseconds(np.roll(picture, 1, axis=0), picture, repeats),
    }


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = classification_rows(arguments.seed) + segmentation_rows(arguments.seed)
    print(
        f"{'metric':<18} {'naive':>8} {'exact':>8} {'pooled':>8} {'naive off by':>13} {'exact off by':>13} {'bound':>8}"
    )
    for entry in rows:
        naive, exact, pooled = (float(entry[key] or 0.0) for key in ("naive", "exact", "pooled"))
        bound = float(entry["error_bound"] or 0.0)
        print(
            f"{entry['metric']:<18} {naive:8.4f} {exact:8.4f} {pooled:8.4f} "
            f"{abs(naive - pooled):13.4f} {abs(exact - pooled):13.1e} {bound:8.4f}"
        )
    measured = timings(arguments.repeats)
    for name, value in measured.items():
        print(f"{name}: {value:.2f}")
    if arguments.out is not None:
        report = {"seed": arguments.seed, "python": platform.python_version(), "metrics": rows, "timings": measured}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
