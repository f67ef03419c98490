"""The two apps behind a real SuperLink and real SuperNodes, each in processes of its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from medfl.data.manifest import write_manifest
from pipelines.run_config import HubSettings, run_config_toml

from .conftest import Reference
from .flower_processes import FlowerProcesses, write_app
from .run_folders import assert_same_run, files_of


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_sites_come_to_the_same_run_as_simulated_ones(
    flower: FlowerProcesses, reference: Reference, tmp_path: Path
) -> None:
    app = write_app(flower.home / "app")
    settings = flower.home / "run.toml"
    settings.write_text(run_config_toml(HubSettings(reference.config, tmp_path / "hub", sites=2)))

    flower.start_superlink()
    for site in reference.manifest.sites():
        own = tmp_path / site / "manifest.csv"
        own.parent.mkdir()
        rows = tuple(replace(row, site="") for row in reference.manifest.where(site=site).rows)
        write_manifest(replace(reference.manifest, rows=rows), own)
        flower.start_supernode(f'site="{site}" manifest="{own}" state="{tmp_path / site / "state"}"')
    flower.run(app, "--run-config", str(settings), timeout_s=600)
    flower.stop()

    assert (tmp_path / "hub" / "metrics.json").exists(), flower.log()
    at_sites = [run for site in reference.manifest.sites() for run in (tmp_path / site / "state").iterdir()]
    assert len(at_sites) == 2  # one run each
    assert all((run / "cases.csv").exists() for run in at_sites)
    assert not (tmp_path / "hub" / "cases").exists()  # cases never leave a site
    assert_same_run(files_of(*at_sites, tmp_path / "hub"), files_of(reference.run))
    assert flower.alive() == []
