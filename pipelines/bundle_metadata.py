"""`metadata.json` of a MONAI Bundle: what goes in, what comes out, which versions."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import medfl
from medfl.config.settings import Config
from medfl.config.task import Segmentation
from medfl.results.metrics import RunMetrics

_FIRST = "0.1.0"
_TO_FILL_IN = "Not stated; fill in before publishing."


def bundle_metadata(config: Config, plan: Mapping[str, Any], metrics: RunMetrics | None) -> dict[str, Any]:
    """Return the metadata, after the MONAI Bundle Specification.

    Parameters
    ----------
    config : Config
    plan : mapping
        The run's `plan.json`.
    metrics : RunMetrics or None
    """
    task = config.task
    values = {} if metrics is None else {name: metric.value for name, metric in metrics.pooled.items()}
    return {
        "version": _FIRST,
        "changelog": {_FIRST: f"exported by medfl {medfl.__version__}"},
        "name": config.name,
        "monai_version": _release("monai"),
        "pytorch_version": _release("torch"),
        "numpy_version": _release("numpy"),
        "required_packages_version": {},
        "task": f"{task.kind} in {task.dimensions} dimensions: {', '.join(task.classes)}",
        "description": "Trained by federated learning with medfl; docs/README.md is its model card.",
        "intended_use": "Research use only. Not a medical device; not for diagnosis or treatment.",
        "authors": _TO_FILL_IN,
        "copyright": _TO_FILL_IN,
        "plan_sha256": str(plan.get("sha256", "")),
        "eval_metrics": {name: value for name, value in values.items() if value is not None},
        "network_data_format": {"inputs": {"image": _image(config)}, "outputs": {"pred": _prediction(config)}},
        "medfl_preparation": _preparation(config),
    }


def _image(config: Config) -> dict[str, Any]:
    channels = config.preprocessing.channels
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": channels,
        "spatial_shape": _spatial_shape(config),
        "dtype": "float32",
        "value_range": [-1, 1] if config.preprocessing.intensity == "unit" else [],
        "is_patch_data": isinstance(config.task, Segmentation) and config.task.sliding_window,
        "channel_def": {str(number): f"channel {number}" for number in range(channels)},
    }


def _prediction(config: Config) -> dict[str, Any]:
    """Logits: the softmax over channels gives probabilities."""
    segments = isinstance(config.task, Segmentation)
    names = ["background", *config.task.classes] if segments else list(config.task.classes)
    return {
        "type": "image" if segments else "probabilities",
        "format": "labels" if segments else "classes",
        "modality": "n/a",
        "num_channels": len(names),
        "spatial_shape": _spatial_shape(config) if segments else [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": isinstance(config.task, Segmentation) and config.task.sliding_window,
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }


def _spatial_shape(config: Config) -> list[int | str]:
    if isinstance(config.task, Segmentation):
        return list(config.task.patch)
    return ["*"] * config.task.dimensions if config.preprocessing.size is None else list(config.preprocessing.size)


def _preparation(config: Config) -> dict[str, Any]:
    """Say what medfl does to an image before the network; whoever runs the bundle elsewhere has to do the same."""
    prepared = config.preprocessing
    return {
        "axes": "C, H, W" if config.task.dimensions == 2 else "C, D, H, W in the canonical orientation of medfl (RAS+)",
        "size": prepared.size,
        "spacing_mm": prepared.spacing_mm,
        "intensity": {
            "zscore": "clipped at the image's 0.5 and 99.5 percentiles, then mean 0 and standard deviation 1",
            "unit": "8-bit range to [-1, 1]",
        }[prepared.intensity],
    }


def _release(package: str) -> str:
    return version(package).split("+")[0]
