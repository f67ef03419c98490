import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.errors import ConfigError
from pipelines.run_config import HubSettings, hub_settings, plan_text, run_config_toml

_PLAN = """
name: tiny
task: {kind: segmentation, dimensions: 2, classes: {structure-a: 1}, patch: [32, 32]}
data: {source: {kind: manifest, path: data/manifest.csv}, sites: {kind: column}}
network: {kind: unet}
training: {rounds: 2}
"""


def a_config(class_name: str = "structure-a") -> Config:
    config = parse_config(_PLAN)
    task = config.task.model_copy(update={"classes": {class_name: 1}})
    return config.model_copy(update={"task": task})


@given(st.text(min_size=1, max_size=20).filter(lambda name: "${" not in name))
@example(name="\x85")
@example(name="\u2028")
def test_a_plan_of_many_lines_with_any_text_survives_the_journey(name: str) -> None:
    config = a_config(name)
    sent = HubSettings(config, Path("/runs/one"), sites=3)
    assert dump_config(config).count("\n") > 10
    assert hub_settings(tomllib.loads(run_config_toml(sent))) == sent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": ""}, "must hold a plan"),
        ({"out": ""}, "must name the hub's run folder"),
        ({"sites": 0}, "whole number from 1, found 0"),
        ({"sites": "two"}, "whole number from 1, found 'two'"),
        ({"plan": "name: 3"}, "plan:1: name"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, object], message: str) -> None:
    given_config = {"plan": _PLAN, "out": "/runs/one", "sites": 2} | change
    with pytest.raises(ConfigError, match=message):
        hub_settings(given_config)


def test_a_site_reads_the_plan_without_the_rest() -> None:
    assert plan_text({"plan": _PLAN}) == _PLAN
