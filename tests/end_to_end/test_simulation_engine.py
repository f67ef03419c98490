"""The two apps in Flower's simulation engine: sites are Ray actors."""

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import pytest

from pipelines.run_config import HubSettings, run_config_toml

from .conftest import Reference
from .flower_processes import FlowerProcesses, write_app
from .run_folders import assert_same_run, files_of


class Require(Protocol):
    def __call__(self, there: bool, reason: str) -> None: ...


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_simulation_engine_comes_to_the_same_run_as_the_loopback_grid(
    flower: FlowerProcesses, reference: Reference, require: Require, tmp_path: Path
) -> None:
    require(find_spec("ray") is not None, "Ray is not installed: pip install 'medfl[simulation]'")
    app = write_app(flower.home / "app")
    settings = flower.home / "run.toml"
    settings.write_text(run_config_toml(HubSettings(reference.config, tmp_path / "run", sites=2)))

    flower.start_superlink("--simulation")
    resources = "num-supernodes=2 client-resources-num-cpus=1"
    flower.run(app, "--run-config", str(settings), "--federation-config", resources, timeout_s=600)
    flower.stop()

    assert (tmp_path / "run" / "metrics.json").exists(), flower.log()
    assert_same_run(files_of(tmp_path / "run"), files_of(reference.run))
    assert flower.alive() == []
