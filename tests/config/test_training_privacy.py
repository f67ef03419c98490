from typing import Any

import pytest
from pydantic import ValidationError

from medfl.config.settings import Config
from tests.config.test_settings import settings

DP: dict[str, Any] = {"kind": "dp_sgd", "epsilon": 8, "delta": 1e-5}
FEATURES: dict[str, Any] = {
    "sharing": "features",
    "task": {"kind": "classification", "dimensions": 2, "classes": {"a": ["0"], "b": ["1"]}},
    "network": {"kind": "efficientnet_lite0"},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delta": None}, "delta"),
        ({"epsilon": None}, "epsilon"),
        ({"adjacency": "zero-out"}, "'add-remove' or 'replace'"),
        ({"epsilon": 0}, "greater than 0"),
        ({"delta": 1}, "less than 1"),
        ({"rate": 0}, "greater than 0"),
        ({"rate": 1.5}, "less than or equal to 1"),
        ({"clip": 0}, "greater than 0"),
        ({"kind": "dp"}, "dp_sgd"),
        ({"sensitivity": 1}, "Extra inputs"),
    ],
)
def test_what_would_make_the_epsilon_another_one_is_refused(change: dict[str, Any], words: str) -> None:
    private = {name: value for name, value in (DP | change).items() if value is not None}
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(settings() | {"privacy": private})


def test_personal_models_are_refused_beside_private_training() -> None:
    with pytest.raises(ValidationError, match="personalize_epochs"):
        Config.model_validate(settings(federation={"personalize_epochs": 1}) | {"privacy": DP})


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [("dp_updates", "scaffold"), ("dp_updates", "fedbn"), ("dp_fedavg", "fedprox"), ("dp_fedavg", "scaffold")],
)
def test_strategies_that_send_more_than_the_update_are_refused(kind: str, strategy: str) -> None:
    with pytest.raises(ValidationError, match=strategy if kind == "dp_updates" else "fedavg"):
        Config.model_validate(settings(federation={"strategy": {"kind": strategy}}) | {"privacy": DP | {"kind": kind}})


def test_a_head_trained_at_the_hub_cannot_be_private() -> None:
    with pytest.raises(ValidationError, match="noise those"):
        Config.model_validate(settings() | FEATURES | {"privacy": DP})
    at_sites = settings() | FEATURES | {"privacy": DP, "features": {"head": "sites"}}
    assert Config.model_validate(at_sites).arm == "none+dp_sgd"


def test_the_arm_names_what_protects() -> None:
    assert Config.model_validate(settings()).arm == "none"
    assert Config.model_validate(settings() | {"privacy": DP}).arm == "dp_sgd"
