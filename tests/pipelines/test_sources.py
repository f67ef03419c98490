from dataclasses import replace
from pathlib import Path

import pytest

from medfl.config.reading import parse_config
from medfl.data.manifest import write_manifest
from medfl.data.phantoms import make_phantoms
from pipelines.sources import load_site, load_sites

_PLAN = """
name: tiny
task: {{kind: segmentation, dimensions: 2, classes: {{structure-a: 1}}, patch: [32, 32]}}
data: {{source: {{kind: manifest, path: '{manifest}'}}, sites: {{kind: column}}}}
network: {{kind: unet}}
training: {{rounds: 1}}
"""


@pytest.mark.parametrize("official", ["", "train"], ids=["no splits", "official training part"])
def test_a_real_site_gets_the_splits_its_simulation_gets(
    official: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    made = make_phantoms(tmp_path / "all", dimensions=2, subjects=24, visits=1, sites=2, size=16)
    given = [replace(row, split=official and ("test" if row.split == "test" else official)) for row in made.rows]
    everyone = replace(made, rows=tuple(given))
    write_manifest(everyone, tmp_path / "all" / "manifest.csv")
    config = parse_config(_PLAN.format(manifest=tmp_path / "all" / "manifest.csv"))
    simulated = load_sites(config)
    for site in everyone.sites():
        (tmp_path / site).mkdir()
        own = replace(everyone, rows=tuple(replace(r, site="own") for r in everyone.where(site=site).rows))
        write_manifest(own, tmp_path / site / "manifest.csv")
        real = load_site(tmp_path / site / "manifest.csv", site, config)
        splits = {row.study: row.split for row in real.rows}
        assert splits == {row.study: row.split for row in simulated.where(site=site).rows}
        assert set(splits.values()) == {"train", "val", "test"}
        assert real.sites() == (site,)
