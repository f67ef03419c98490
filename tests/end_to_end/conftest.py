"""One small federation, run once in this process; the other grids must come to the same. And one with three sites."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.data.manifest import Manifest, write_manifest
from medfl.data.phantoms import make_phantoms
from pipelines.simulate import simulate

from .federation import Federation, federation
from .flower_processes import FlowerProcesses, flower_processes, missing_programs
from .three_sites import SITES

_PLAN = """
name: tiny
seed: 3
task: {{kind: segmentation, dimensions: 2, classes: {{structure-a: 1, structure-b: 2}}, patch: [32, 32]}}
data:
  source: {{kind: manifest, path: '{manifest}'}}
  sites: {{kind: column}}
  split: {{train: 0.5, validation: 0.2, test: 0.3}}
network: {{kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4}}
training: {{rounds: 2, batch_size: 4, learning_rate: 0.01}}
federation: {{strategy: {{kind: scaffold}}, minimum_replies: 2, join_timeout_s: 240}}
evaluation: {{every: 2, minimum_subjects: 5, uncertainty_passes: 1}}
compute: {{threads: 1, device: cpu}}
"""


class Reference(NamedTuple):
    """The federation, and what it came to over the loopback grid."""

    config: Config
    manifest: Manifest
    run: Path
    cache: Path


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Two sites, SCAFFOLD (sites keep arrays between rounds), two rounds."""
    folder = tmp_path_factory.mktemp("federation")
    made = make_phantoms(folder / "data", dimensions=2, subjects=44, visits=1, sites=2, seed=3)
    manifest = replace(made, rows=tuple(replace(row, split="") for row in made.rows))
    write_manifest(manifest, folder / "data" / "manifest.csv")
    config = parse_config(_PLAN.format(manifest=folder / "data" / "manifest.csv"))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFL_CACHE", str(folder / "cache"))
        simulate(config, folder / "run")
    torch.set_num_threads(threads)
    return Reference(config, manifest, folder / "run", folder / "cache")


@pytest.fixture
def flower(reference: Reference, require: Callable[[bool, str], None]) -> Iterator[FlowerProcesses]:
    """Flower's programs, all ended after the test."""
    missing = missing_programs()
    require(not missing, f"Flower's programs are not installed: {', '.join(missing)}")
    with flower_processes(reference.cache) as processes:
        yield processes


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Made-up patients of three hospitals."""
    folder = tmp_path_factory.mktemp("patients")
    made = make_phantoms(folder, dimensions=2, subjects=66, visits=1, sites=3, seed=3)
    found = replace(made, rows=tuple(replace(row, split="") for row in made.rows))
    write_manifest(found, folder / "manifest.csv")
    return found


@pytest.fixture
def joined(patients: Manifest, require: Callable[[bool, str], None]) -> Iterator[Federation]:
    """A hub that runs and three sites that are connected."""
    missing = missing_programs()
    require(not missing, f"Flower's programs are not installed: {', '.join(missing)}")
    with federation() as lent:
        lent.bring_together(patients, *SITES)
        yield lent
