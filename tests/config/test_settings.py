from typing import Any

import pytest
from pydantic import ValidationError

from medfl.config.settings import Config


def settings(**parts: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "tiny",
        "task": {"kind": "segmentation", "dimensions": 3, "classes": {"a": 1}, "patch": [16, 16, 16]},
        "data": {"source": {"kind": "phantoms"}, "sites": {"kind": "column"}},
        "network": {"kind": "unet", "channels": [4, 8, 16], "strides": [2, 2], "features": 4},
        "training": {"rounds": 1},
    }
    return base | {name: {**base.get(name, {}), **part} for name, part in parts.items()}


CLASSIFY = {"kind": "classification", "dimensions": 3, "classes": {"a": ["0"], "b": ["1"]}}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"task": {"patch": [16, 16]}}, "patch must have 3 numbers"),
        ({"task": {"patch": [16, 16, 18]}}, "multiples of 4"),
        ({"task": {"patch": [4, 4, 4]}}, "one above it"),
        ({"task": {"classes": {"a": 1, "b": 1}}}, "distinct values"),
        ({"task": {"classes": {"a": 0}}}, "distinct values in 1..255"),
        ({"task": {"classes": {"a": 300}}}, "distinct values in 1..255"),
        ({"task": {"ignore_value": 1}}, "ignore_value"),
        ({"network": {"strides": [2]}}, "strides must have 2 numbers"),
        ({"network": {"norm": "group", "features": 6}}, "multiples of 4"),
        ({"preprocessing": {"size": [32, 32]}}, "preprocessing.size must have 3 numbers"),
        ({"preprocessing": {"spacing_mm": [1.0, 1.0]}}, "preprocessing.spacing_mm must have 3 numbers"),
        ({"preprocessing": {"spacing_mm": [1.0, 1.0, 0.0]}}, "greater than 0"),
        ({"training": {"augmentation": {"flip_axes": [3]}}}, "below 3"),
        ({"training": {"augmentation": {"flip_axes": [-1]}}}, "below 3"),
        ({"training": {"augmentation": {"flip_axes": [1, 1]}}}, "distinct"),
        ({"data": {"split": {"train": 0.5, "validation": 0.1, "test": 0.2}}}, "must be 1"),
        ({"data": {"sites": {"kind": "sizes", "shares": {"../up": 0.5}}}}, "site names"),
        ({"evaluation": {"minimum_subjects": 2}}, "greater than or equal to 3"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(parts: dict[str, dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(settings(**parts))


@pytest.mark.parametrize(
    ("task", "network"),
    [
        (CLASSIFY, {"kind": "unet"}),
        (settings()["task"], {"kind": "densenet"}),
        (CLASSIFY, {"kind": "efficientnet_lite0"}),
        ({**CLASSIFY, "classes": {"a": ["0"], "b": ["0"]}}, {"kind": "densenet"}),
        ({**CLASSIFY, "classes": {"a": ["0"], "b": []}}, {"kind": "densenet"}),
    ],
)
def test_a_network_that_cannot_do_the_task_is_refused(task: dict[str, Any], network: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(settings() | {"task": task, "network": network})


def test_settings_cannot_be_changed_afterwards() -> None:
    config = Config.model_validate(settings())
    with pytest.raises(ValidationError):
        config.seed = 4
