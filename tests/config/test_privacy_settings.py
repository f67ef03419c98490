"""Settings of shared features and their protection."""

from typing import Any

import pytest
from pydantic import ValidationError

from medfl.config.privacy import Protection
from medfl.config.settings import Config

BASE: dict[str, Any] = {
    "name": "tiny",
    "sharing": "features",
    "task": {"kind": "classification", "dimensions": 2, "classes": {"a": ["0"], "b": ["1"]}},
    "data": {"source": {"kind": "phantoms", "dimensions": 2}, "sites": {"kind": "column"}},
    "preprocessing": {"size": [64, 64]},
    "network": {"kind": "efficientnet_lite0"},
    "training": {"rounds": 1},
}
MASKS = {"kind": "segmentation", "dimensions": 2, "classes": {"a": 1}, "patch": [64, 64]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protection": {"keyed": {"kind": "knt", "kappa": 1.0}}}, "kappa must be below 1"),
        ({"protection": {"keyed": {"kind": "knt", "mode": "folding"}}}, "kappa must be above 1"),
        ({"protection": {"keyed": {"kind": "knt", "omega": [2.0, 1.0]}}}, "omega must be"),
        ({"protection": {"noise": {"kind": "gaussian"}}}, "Field required"),
        ({"protection": {"noise": {"kind": "gaussian", "epsilon": 0}}}, "greater than 0"),
        ({"protection": {"noise": {"kind": "gaussian", "epsilon": 1, "clip": 0}}}, "greater than 0"),
        ({"protection": {"minimize": {"kind": "bottleneck", "directions": [4, 2]}}}, "must ascend"),
        ({"protection": {"minimize": {"kind": "bottleneck", "learn": "site"}}}, "site must be named"),
        (
            {"protection": {"minimize": {"kind": "bottleneck", "learn": "site", "site": "north"}}},
            "directions must be one number",
        ),
        ({"protection": {"minimize": {"kind": "bottleneck", "method": "lda"}}}, "classes minus one"),
        ({"sharing": "weights", "protection": {"keyed": {"kind": "knt"}}}, "never on weights"),
        ({"network": {"kind": "densenet"}}, "needs a frozen public backbone"),
        ({"federation": {"strategy": {"kind": "fedprox"}}}, "nothing to aggregate"),
        ({"features": {"head": "sites"}, "federation": {"strategy": {"kind": "fedbn"}}}, "not personal"),
        ({"federation": {"personalize_epochs": 1}}, "not personal"),
        (
            {"features": {"head": "sites"}, "protection": {"keyed": {"kind": "knt", "custody": "site"}}},
            "cannot be averaged over keys",
        ),
        ({"task": MASKS}, "needs maps and a hidden layer"),
        ({"task": MASKS, "network": {"kind": "efficientnet_lite0", "layer": "stride8"}}, "needs maps and a hidden"),
        (
            {
                "task": MASKS,
                "network": {"kind": "efficientnet_lite0", "layer": "stride8", "hidden": 4},
                "preprocessing": {"size": [60, 64]},
            },
            "multiples of 8",
        ),
    ],
)
def test_a_protection_that_cannot_hold_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(BASE | change)


@pytest.mark.parametrize(
    ("protection", "arm"),
    [
        ({}, "none"),
        ({"minimize": {"kind": "bottleneck"}}, "bottleneck"),
        ({"minimize": {"kind": "bottleneck"}, "keyed": {"kind": "knt"}}, "bottleneck+knt"),
        ({"noise": {"kind": "gaussian", "epsilon": 1}, "keyed": {"kind": "knt"}}, "knt+gaussian"),
        ({"noise": {"kind": "plain", "std": 1}}, "matched-noise"),
        ({"keyed": {"kind": "knt", "mode": "affine"}}, "affine"),
        ({"keyed": {"kind": "knt", "mode": "affine", "mixer": "none"}}, "permutation"),
        ({"quantize": 2}, "quantise"),
    ],
)
def test_a_protection_is_called_by_its_stages(protection: dict[str, Any], arm: str) -> None:
    assert Protection.model_validate(protection).arm == arm


def test_masks_are_trained_on_at_the_sites_unless_said_otherwise() -> None:
    network = {"kind": "efficientnet_lite0", "layer": "stride8", "hidden": 4}
    assert Config.model_validate(BASE).head_at == "hub"
    assert Config.model_validate(BASE | {"task": MASKS, "network": network}).head_at == "sites"
    told = BASE | {"task": MASKS, "network": network, "features": {"head": "hub"}}
    assert Config.model_validate(told).head_at == "hub"
