"""Small run folders as a run would leave them, made in milliseconds."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.dashboard.runs import RunEntry, entry_of
from medfl.config.reading import dump_config, parse_config
from medfl.data.manifest import Manifest, StudyRow, write_manifest
from medfl.imaging.nifti import write_nifti
from medfl.imaging.volume import Volume
from medfl.results.history import History, RoundRecord, SiteRound
from medfl.results.metrics import MetricValue, RunMetrics
from medfl.results.privacy import PrivacyRecord, Release
from medfl.results.store import RunStore

SITES = ("north", "south")
NASTY = "<img src=x onerror=alert(1)> ![x](http://evil.example/x.png) $a$ :red[b]"
_SHAPE = (10, 12, 14)
_SEGMENTATION = """
name: {name}
task: {{kind: segmentation, dimensions: 3, classes: {{left: 1, right: 2}}, patch: [16, 16, 16]}}
data: {{source: {{kind: manifest, path: {manifest}}}, sites: {{kind: column}}}}
network: {{kind: unet, channels: [4, 8], strides: [2], residual_units: 0, features: 4}}
training: {{rounds: 4}}
"""
_CLASSIFICATION = """
name: {name}
task: {{kind: classification, dimensions: 2, classes: {{normal: [N], sick: [S]}}}}
data: {{source: {{kind: manifest, path: {manifest}}}, sites: {{kind: column}}}}
preprocessing: {{size: [32, 32], intensity: unit}}
network: {{kind: efficientnet_lite0}}
training: {{rounds: 4}}
"""


def entry(folder: Path) -> RunEntry:
    """Return a run folder as the dashboard sees it."""
    found = entry_of(folder, folder)
    assert found is not None
    return found


def segmentation_run(folder: Path, *, cases: int = 12, name: str = "tiny", finished: bool = True) -> Path:
    """Write a run of two sites with images, masks and predictions of `cases` studies each."""
    data = folder.parent / f"{folder.name} data"
    manifest = _images(data, folder, cases)
    _settings(folder, _SEGMENTATION, name, manifest)
    _rounds(folder, 4 if finished else 2)
    if finished:
        _segmentation_cases(folder, cases)
        values = {"dice_mean": 0.8, "dice_mean/left": 0.82, "dice_mean/right": 0.78, "hd95_mm": 2.5}
        _finish(folder, values, cases)
    return folder


def classification_run(folder: Path, *, cases: int = 30) -> Path:
    """Write a finished run of two sites whose images are not there."""
    _settings(folder, _CLASSIFICATION, "tiny-xray", folder.parent / "nowhere.csv")
    _rounds(folder, 4)
    generator = np.random.default_rng(3)
    header = "site subject study split probability/normal probability/sick label predicted is_correct brier".split()
    header += "confidence entropy spread visit_date sex age scanner prediction".split()
    for site in SITES:
        rows = []
        for number in range(cases):
            sick = float(generator.uniform())
            label, predicted = int(generator.uniform() < sick), int(sick > 0.5)
            confidence = max(sick, 1 - sick)
            entropy = -(sick * np.log(sick) + (1 - sick) * np.log(1 - sick))
            numbers = [1 - sick, sick, label, predicted, int(label == predicted), 0.1, confidence, entropy, 0.01]
            who = [site, f"{site}-p{number}", f"{site}-s{number}", "test"]
            rows.append([*who, *(f"{value:.6g}" for value in numbers), "", "MF"[number % 2], "60", "A", ""])
        RunStore(folder).write_cases(site, header, rows)
    _finish(folder, {"auroc": 0.9, "accuracy": 0.85, "sensitivity": 0.8, "ece": 0.05}, cases)
    return folder


def _settings(folder: Path, text: str, name: str, manifest: Path) -> None:
    config = parse_config(text.format(name=json.dumps(name), manifest=json.dumps(str(manifest))))
    RunStore(folder).write_settings(dump_config(config), {"schema": "medfl/plan/1", "sha256": "ab" * 32})


def _rounds(folder: Path, done: int) -> None:
    rounds = [round_record(number) for number in range(1, done + 1)]
    RunStore(folder).write_history(History(rounds=tuple(rounds)))


def round_record(number: int) -> RoundRecord:
    """Return one round in which the second site was refused every third time."""
    parts = [
        SiteRound(
            site=site,
            subjects=20,
            studies=20,
            loss=None if site == "south" and number % 3 == 0 else 1 / number,
            seconds=2.0,
            bytes_down=1000,
            bytes_up=2000,
            refused="not_finite" if site == "south" and number % 3 == 0 else "",
        )
        for site in SITES
    ]
    metrics = {"dice_mean": MetricValue(value=0.5 + number / 20, ci_low=0.4, ci_high=0.9, n=10)}
    return RoundRecord(number=number, seconds=3.0, sites=tuple(parts), metrics=metrics)


def _finish(folder: Path, values: dict[str, float], subjects: int) -> None:
    def metrics(shift: float) -> dict[str, MetricValue]:
        return {
            name: MetricValue(
                value=value + shift, ci_low=value + shift - 0.05, ci_high=value + shift + 0.05, n=subjects
            )
            for name, value in values.items()
        }

    sites = {site: metrics(shift) for site, shift in zip(SITES, (0.02, -0.02), strict=True)}
    RunStore(folder).write_metrics(
        RunMetrics(split="test", pooled=metrics(0.0), sites=sites, suppressed={"west": "fewer than 5 subjects"})
    )
    releases = [Release(site=site, what="model weights after local training", subjects=20, times=4) for site in SITES]
    RunStore(folder).write_privacy(PrivacyRecord(releases=tuple(releases), statement="Nothing is proven."))
    card = "# Model card\n\n**Research use only.** Not a device.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    RunStore(folder).write_model({"w": np.zeros(2, np.float32)}, card)


def _segmentation_cases(folder: Path, cases: int) -> None:
    header = "site subject study split dice/left dice/right hd95_mm/left hd95_mm/right entropy spread".split()
    header += "visit_date sex age scanner prediction".split()
    for place, site in enumerate(SITES):
        rows: list[Sequence[str]] = []
        for number in range(cases):
            study = f"{site}-s{number}"
            dice = 0.9 - 0.03 * number - 0.02 * place
            numbers = [dice, dice - 0.05, 1.5, 2.5, 0.1 + 0.01 * number, 0.005]
            who = [site, f"{site}-p{number}", study, "test"]
            more = ["2020-01-01", "MF"[number % 2], str(30 + 5 * number), "Scanner A"]
            path = f"predictions/{site}/{study}.nii.gz"
            rows.append([*who, *(f"{value:.6g}" for value in numbers), *more, path])
        RunStore(folder).write_cases(site, header, rows)


def _images(data: Path, folder: Path, cases: int) -> Path:
    data.mkdir(parents=True)
    generator = np.random.default_rng(0)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    rows = []
    for site in SITES:
        predictions = RunStore(folder).predictions_of(site)
        for number in range(cases):
            study = f"{site}-s{number}"
            reference = np.zeros(_SHAPE, np.uint8)
            reference[2:6, 3:8, 2:6], reference[2:6, 3:8, 8:12] = 1, 2
            model = np.roll(reference, 1, axis=2)
            image = (reference * 100 + generator.integers(0, 50, _SHAPE)).astype(np.int16)
            for array, path in (
                (image, data / f"{study}.nii.gz"),
                (reference, data / f"{study}-mask.nii.gz"),
                (model, predictions / f"{study}.nii.gz"),
            ):
                write_nifti(Volume(array[None], affine), path)
            subject = f"{site}-p{number}"
            rows.append(StudyRow(subject, study, site, f"{study}.nii.gz", f"{study}-mask.nii.gz", "test"))
    write_manifest(Manifest(tuple(rows), data), data / "manifest.csv")
    return data / "manifest.csv"
