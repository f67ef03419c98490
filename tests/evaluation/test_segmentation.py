from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from scipy import ndimage

from medfl.errors import ConfigError, ShapeError
from medfl.evaluation.measures import flatten, unflatten
from medfl.evaluation.segmentation import CASE_FIELDS, SegmentationTask, measure_study, per_case
from medfl.evaluation.segmentation_metrics import finish
from medfl.evaluation.segmentation_sums import blocks_from_studies
from medfl.results.metrics import MetricValue

TASK = SegmentationTask(("anterior", "posterior"))
FIELD = {name: index for index, name in enumerate(CASE_FIELDS)}
PER_CASE = {"dice_mean": "dice", "iou_mean": "iou", "hd95_mm": "hd95_mm", "msd_mm": "msd_mm", "nsd@1mm": "nsd"}


def label_maps(seed: int, shape: tuple[int, ...] = (12, 14, 13)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    maps = []
    field = ndimage.gaussian_filter(generator.normal(size=shape), 2)
    for _ in range(2):
        noisy = field + 0.3 * field.std() * ndimage.gaussian_filter(generator.normal(size=shape), 1)
        levels = np.quantile(noisy, [0.6, 0.8])
        maps.append(np.digitize(noisy, levels).astype(np.uint8))
    return maps[0], maps[1]


def measured_table(seed: int, n: int, *, absent_share: float = 0.1, missed_share: float = 0.05) -> np.ndarray:
    """What `measure_study` could have returned for n studies of two classes with organs of about 1000 voxels."""
    generator = np.random.default_rng(seed)
    rows = np.full((n, 2, len(CASE_FIELDS)), np.nan)
    size = generator.integers(600, 1500, (n, 2)) * (generator.random((n, 2)) >= absent_share)
    overlap = (size * generator.uniform(0.6, 0.95, (n, 2))).astype(int) * (generator.random((n, 2)) >= missed_share)
    extra = generator.integers(20, 300, (n, 2)) * ((overlap > 0) | ((size == 0) & (generator.random((n, 2)) < 0.6)))
    tp, fp, fn = overlap, extra, size - overlap
    rows[..., [FIELD["tp"], FIELD["fp"], FIELD["fn"]]] = np.stack([tp, fp, fn], axis=-1)
    present, found = size > 0, (size > 0) & (tp + fp > 0)
    whole = np.where(present, 2 * tp + fp + fn, 1)
    rows[..., FIELD["dice"]] = np.where(present, 2 * tp / whole, np.nan)
    rows[..., FIELD["iou"]] = np.where(present, tp / np.where(present, tp + fp + fn, 1), np.nan)
    rows[..., FIELD["hd95_mm"]] = np.where(found, np.sqrt(generator.integers(1, 30, (n, 2))), np.nan)
    rows[..., FIELD["msd_mm"]] = np.where(found, generator.uniform(0.3, 2.0, (n, 2)), np.nan)
    rows[..., FIELD["nsd"]] = np.where(found, generator.uniform(0.5, 0.999, (n, 2)), np.nan)
    rows[..., FIELD["false_positive_ml"]] = np.where(present, np.nan, fp / 1000)
    return rows


def split(seed: int, n_sites: int, n: int, studies_per_subject: int) -> tuple[list[str], np.ndarray]:
    """Subject per study and site per study; a subject stays at one site, every site gets 12 subjects or more."""
    generator = np.random.default_rng(seed)
    subjects = generator.integers(0, max(n // studies_per_subject, 12 * n_sites), n)
    return [f"s{subject}" for subject in subjects], subjects % n_sites


def site_blocks(ids: list[str], sites: np.ndarray, rows: np.ndarray, n_sites: int) -> list[dict]:
    sent = []
    for site in range(n_sites):
        own = np.flatnonzero(sites == site)
        blocks = blocks_from_studies([ids[i] for i in own], rows[own], TASK)
        sent.append(unflatten(flatten(blocks), TASK.schema()))
    return sent


def close(metric: MetricValue, expected: float) -> None:
    assert metric.value is not None
    assert abs(metric.value - expected) <= 1e-9 + (metric.error_bound or 0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4))
def test_finished_metrics_equal_the_pooled_ones(seed: int, n_sites: int, studies_per_subject: int) -> None:
    n = 150 * n_sites
    rows = measured_table(seed, n)
    ids, sites = split(seed, n_sites, n, studies_per_subject)
    metrics = finish(site_blocks(ids, sites, rows, n_sites), TASK)
    for position, name in enumerate(TASK.class_names):
        column = rows[:, position]
        for metric, field in PER_CASE.items():
            close(metrics[f"{metric}/{name}"], float(np.nanmean(column[:, FIELD[field]])))
        tp, fp, fn = column[:, FIELD["tp"] : FIELD["fn"] + 1].sum(axis=0)
        close(metrics[f"dice_pooled/{name}"], 2 * tp / (2 * tp + fp + fn))
        close(metrics[f"iou_pooled/{name}"], tp / (tp + fp + fn))
        assert metrics[f"dice_pooled/{name}"].error_bound is None
        assert metrics[f"dice_mean/{name}"].error_bound is None
        assert metrics[f"msd_mm/{name}"].error_bound is None
        assert (metrics[f"hd95_mm/{name}"].error_bound or 1.0) < 0.05
    close(metrics["dice_mean"], float(np.mean([metrics[f"dice_mean/{name}"].value for name in TASK.class_names])))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_absent_and_missed_studies_are_counted_not_dropped(seed: int) -> None:
    rows = measured_table(seed, 200, absent_share=0.3, missed_share=0.2)
    ids = [f"s{i}" for i in range(200)]
    metrics = finish([blocks_from_studies(ids, rows, TASK)], TASK)
    tp, fp, fn = (rows[:, 0, FIELD[field]] for field in ("tp", "fp", "fn"))
    absent, present = tp + fn == 0, tp + fn > 0
    assert metrics["absent_false_positive_rate/anterior"].value == pytest.approx((fp[absent] > 0).mean(), abs=1e-12)
    assert metrics["absent_false_positive_ml/anterior"].value == pytest.approx((fp[absent] / 1000).mean(), abs=1e-9)
    assert metrics["missed_rate/anterior"].value == pytest.approx((tp + fp == 0)[present].mean(), abs=1e-12)
    assert metrics["dice_mean/anterior"].n == present.sum()
    assert metrics["dice_mean/anterior"].value == pytest.approx(
        (2 * tp / np.maximum(2 * tp + fp + fn, 1))[present].mean(), abs=1e-9
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_measured_overlap_equals_monai(seed: int) -> None:
    predicted, reference = label_maps(seed)
    rows = measure_study(predicted, reference, spacing_mm=(1, 1, 1), task=TASK)
    one_hot = [
        torch.from_numpy(np.stack([m == c for c in range(3)])[None].astype(np.float64)) for m in (predicted, reference)
    ]
    dice = compute_dice(*one_hot, include_background=False)[0]
    iou = compute_iou(*one_hot, include_background=False)[0]
    # MONAI returns float32
    assert rows[:, FIELD["dice"]] == pytest.approx(dice.numpy(), rel=1e-6)
    assert rows[:, FIELD["iou"]] == pytest.approx(iou.numpy(), rel=1e-6)
    counts = rows[0, [FIELD["tp"], FIELD["fp"], FIELD["fn"]]]
    first, second = predicted == 1, reference == 1
    assert counts.tolist() == [(first & second).sum(), (first & ~second).sum(), (~first & second).sum()]


def test_empty_masks_follow_the_conventions() -> None:
    one, none = np.zeros((4, 5, 6), int), np.zeros((4, 5, 6), int)
    one[1:3, 1:3, 1:3] = 1
    measure = partial(measure_study, spacing_mm=(2.0, 1.0, 0.5), task=TASK)
    both_empty = per_case(measure(none, none), TASK)
    assert both_empty["dice/anterior"] is None
    assert both_empty["false_positive_ml/anterior"] == 0.0
    missed = per_case(measure(none, one), TASK)
    assert missed["dice/anterior"] == 0.0
    assert missed["hd95_mm/anterior"] is None
    invented = per_case(measure(one, none), TASK)
    assert invented["dice/anterior"] is None
    assert invented["false_positive_ml/anterior"] == pytest.approx(8 / 1000)
    perfect = per_case(measure(one, one), TASK)
    assert (perfect["dice/anterior"], perfect["hd95_mm/anterior"], perfect["nsd/anterior"]) == (1.0, 0.0, 1.0)
    assert perfect["dice/posterior"] is None


def test_pictures_are_measured_too() -> None:
    predicted, reference = label_maps(1, (40, 40))
    rows = measure_study(predicted, reference, spacing_mm=(1, 1), task=TASK)
    assert np.isfinite(rows[:, : FIELD["nsd"] + 1]).all()


def test_shapes_and_spacing_must_fit() -> None:
    zeros = np.zeros((4, 4, 4), int)
    with pytest.raises(ShapeError):
        measure_study(zeros, zeros[:3], spacing_mm=(1, 1, 1), task=TASK)
    with pytest.raises(ShapeError):
        measure_study(zeros, zeros, spacing_mm=(1, 1), task=TASK)
    with pytest.raises(ShapeError):
        measure_study(zeros, zeros, spacing_mm=(1, 0, 1), task=TASK)
    with pytest.raises(ShapeError):
        blocks_from_studies(["a"], np.zeros((1, 1, 9)), TASK)
    with pytest.raises(ConfigError):
        SegmentationTask(("a", "a"))


def test_a_small_site_sends_nothing_and_the_metric_says_so() -> None:
    rows = measured_table(0, 34)
    sent = [blocks_from_studies([f"s{i}" for i in range(30)], rows[:30], TASK)]
    sent.append(blocks_from_studies([f"t{i}" for i in range(4)], rows[30:], TASK))
    assert sent[1] == {}
    metric = finish(sent, TASK)["dice_pooled/anterior"]
    assert metric.n == 30
    assert "1 of 2 sites left out" in metric.note
    alone = finish(sent[1:], TASK)["dice_mean/anterior"]
    assert (alone.value, alone.n) == (None, 0)
    assert "suppressed" in alone.note


def test_a_class_in_few_subjects_sends_no_per_case_sums() -> None:
    rows = measured_table(0, 30, absent_share=0.0, missed_share=0.0)
    rows[:27, 0] = np.nan
    rows[:27, 0, [FIELD["tp"], FIELD["fn"]]] = 0
    rows[:27, 0, FIELD["fp"]] = np.arange(27) % 2 * 50
    rows[:27, 0, FIELD["false_positive_ml"]] = rows[:27, 0, FIELD["fp"]] / 1000
    sent = blocks_from_studies([f"s{i}" for i in range(30)], rows, TASK)
    assert "dice/anterior" not in sent
    assert "hd95_mm/anterior" not in sent
    assert {"dice/posterior", "absent_ml/anterior", "voxels/anterior"} <= set(sent)


def test_volume_in_few_absent_subjects_is_not_sent() -> None:
    rows = measured_table(0, 30, absent_share=1.0)
    rows[:, 0, [FIELD["fp"], FIELD["false_positive_ml"]]] = 0
    rows[0, 0, FIELD["fp"]], rows[0, 0, FIELD["false_positive_ml"]] = 4000, 4.0
    sent = blocks_from_studies([f"s{i}" for i in range(30)], rows, TASK)
    assert "absent_ml/anterior" not in sent
    assert sent["absent_false_positive/anterior"].totals.tolist() == [1, 30]
    assert sent["voxels/anterior"].resolution[1] >= 32


def test_intervals_hold_the_value_and_narrow_with_subjects() -> None:
    widths = []
    for n in (20, 200):
        metrics = finish([blocks_from_studies([f"s{i}" for i in range(n)], measured_table(3, n), TASK)], TASK)
        for metric in metrics.values():
            if metric.value is not None:
                assert metric.ci_low is not None
                assert metric.ci_high is not None
                assert metric.ci_low <= metric.value <= metric.ci_high
        dice = metrics["dice_pooled/anterior"]
        widths.append((dice.ci_high or 0) - (dice.ci_low or 0))
    assert widths[1] < widths[0] / 2


def test_real_hippocampus_masks_are_measured(real_data: Path) -> None:
    paths = sorted((real_data / "msd-hippocampus" / "labels").glob("*.nii.gz"))[:12]
    references = [np.asarray(nibabel.load(path).dataobj).astype(np.uint8) for path in paths]
    rows = np.stack(
        [
            measure_study(np.roll(m, (1, i % 2), (0, 1)), m, spacing_mm=(1, 1, 1), task=TASK)
            for i, m in enumerate(references)
        ]
    )
    metrics = finish([blocks_from_studies([path.name for path in paths], rows, TASK)], TASK)
    assert 0.7 < (metrics["dice_mean"].value or 0) < 0.95
    assert 0.9 < (metrics["hd95_mm"].value or 0) < 1.5
    assert metrics["dice_mean/anterior"].error_bound is None


@pytest.mark.parametrize("seed", range(10))
def test_the_smallest_site_still_gets_intervals(seed: int) -> None:
    rows = measured_table(seed, 5, absent_share=0.0, missed_share=0.0)
    metrics = finish([blocks_from_studies([f"s{i}" for i in range(5)], rows, TASK)], TASK)
    for key in ("dice_mean/anterior", "dice_pooled/anterior", "iou_pooled", "hd95_mm"):
        low, high = metrics[key].ci_low, metrics[key].ci_high
        assert low is not None
        assert high is not None
        assert low < (metrics[key].value or 0) < high
