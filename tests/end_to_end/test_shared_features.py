"""Features over a real SuperLink: the custodian's key reaches every site wrapped, and never the hub."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medfl.config.reading import parse_config
from medfl.data.manifest import write_manifest
from medfl.data.phantoms import make_phantoms
from medfl.privacy.key_files import KeyFile
from medfl.privacy.key_wrapping import Identity, unwrap_key_file, wrap_key_file
from medfl.results.store import RunStore
from pipelines.run_config import HubSettings, run_config_toml
from pipelines.simulate import simulate

from .flower_processes import flower_processes, missing_programs, write_app

PLAN = """
name: tiny_features
sharing: features
task: {{kind: classification, dimensions: 2, classes: {{normal: [normal], lesion: [lesion]}}}}
data:
  source: {{kind: manifest, path: '{manifest}'}}
  sites: {{kind: column}}
  split: {{train: 0.5, validation: 0.2, test: 0.3}}
preprocessing: {{size: [32, 32]}}
network: {{kind: efficientnet_lite0, hidden: 4}}
training: {{rounds: 2, batch_size: 8, learning_rate: 0.01}}
federation: {{minimum_replies: 2, join_timeout_s: 240}}
evaluation: {{every: 2, minimum_subjects: 3}}
protection:
  minimize: {{kind: bottleneck, directions: [1, 2], components: 16}}
  keyed: {{kind: knt}}
compute: {{threads: 1, device: cpu}}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_sites_with_an_unwrapped_key_come_to_the_model_of_the_simulation(
    tmp_path: Path, require: Callable[[bool, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = missing_programs()
    require(not missing, f"Flower's programs are not installed: {', '.join(missing)}")
    made = make_phantoms(tmp_path / "data", dimensions=2, subjects=60, visits=1, sites=2, seed=3, task="classification")
    manifest = replace(made, rows=tuple(replace(row, split="") for row in made.rows))
    write_manifest(manifest, tmp_path / "data" / "manifest.csv")
    config = parse_config(PLAN.format(manifest=tmp_path / "data" / "manifest.csv"))
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    simulate(config, tmp_path / "simulated")
    custodian = tmp_path / "simulated.keys" / "federation.key"

    with flower_processes(tmp_path / "cache") as flower:
        app = write_app(flower.home / "app")
        settings = flower.home / "run.toml"
        settings.write_text(run_config_toml(HubSettings(config, tmp_path / "hub", sites=2)))
        flower.start_superlink()
        for site in manifest.sites():
            own = tmp_path / site
            (own / "keys").mkdir(parents=True, mode=0o700)
            identity = Identity.create(own / "identity")
            unwrap_key_file(wrap_key_file(custodian, identity.public_key()), identity, own / "keys" / "federation.key")
            KeyFile.create(own / "keys" / f"{site}.key", "site")
            rows = tuple(replace(row, site="") for row in manifest.where(site=site).rows)
            write_manifest(replace(manifest, rows=rows), own / "manifest.csv")
            flower.start_supernode(
                f'site="{site}" manifest="{own / "manifest.csv"}" state="{own / "state"}" keys="{own / "keys"}"'
            )
        flower.run(app, "--run-config", str(settings), timeout_s=600)
        flower.stop()
        assert (tmp_path / "hub" / "metrics.json").exists(), flower.log()
        log = flower.log()

    simulated, hub = RunStore(tmp_path / "simulated"), RunStore(tmp_path / "hub")
    for name in ("model.safetensors", "metrics.json", "minimization.safetensors", "privacy.json"):
        assert (hub.folder / name).read_bytes() == (simulated.folder / name).read_bytes(), name
    ids = {record.key_id for record in hub.read_history().releases}
    assert ids == {record.key_id for record in simulated.read_history().releases}
    assert len(ids) == 1
    secret = KeyFile.load(custodian).key.secret_bytes()
    seen_by_hub = [path.read_bytes() for path in hub.folder.rglob("*") if path.is_file()]
    assert not any(secret in data or secret.hex().encode() in data for data in [*seen_by_hub, log.encode()])
    assert not list(hub.folder.glob("released/*"))  # protected features stay with the site's own record
    shutil.rmtree(tmp_path / "data")
