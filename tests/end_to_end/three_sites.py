"""A hub and three sites with made-up patients, and plans that all three approve."""

from collections.abc import Sequence
from pathlib import Path

import torch

from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.data.manifest import Manifest
from medfl.governance.plan import write_plan
from pipelines.simulate import simulate
from tests.run_plans import run_plan

from .federation import Federation

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 6

_CONFIG = """
name: {name}
seed: 3
task: {{kind: segmentation, dimensions: 2, classes: {{structure-a: 1, structure-b: 2}}, patch: [32, 32]}}
data:
  source: {{kind: manifest, path: '{manifest}'}}
  sites: {{kind: column}}
  split: {{train: 0.5, validation: 0.2, test: 0.3}}
network: {{kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4}}
training: {{rounds: {rounds}, batch_size: 4, learning_rate: 0.01}}
federation: {{strategy: {{kind: {strategy}}}, minimum_replies: 2, join_timeout_s: 120, round_timeout_s: {timeout}}}
evaluation: {{every: {every}, minimum_subjects: 5, uncertainty_passes: 1}}
compute: {{threads: 1, device: cpu}}
"""


def config_of(
    manifest: Manifest,
    name: str,
    *,
    strategy: str = "fedavg",
    timeout_s: int = 120,
    every: int = 0,
    rounds: int = ROUNDS,
) -> Config:
    return parse_config(
        _CONFIG.format(
            name=name,
            manifest=manifest.folder / "manifest.csv",
            strategy=strategy,
            timeout=timeout_s,
            every=every,
            rounds=rounds,
        )
    )


def plan_of(config: Config, lent: Federation, sites: Sequence[str] = SITES) -> Path:
    """Write a plan and approve it at every site."""
    plan = run_plan(config, *sites)
    path = lent.folder / f"{config.name}.json"
    write_plan(plan, path)
    lent.approve(path, plan.sha256(), *sites)
    return path


def simulated(config: Config, out: Path) -> Path:
    """Run the same in this process."""
    threads = torch.get_num_threads()
    simulate(config, out)
    torch.set_num_threads(threads)
    return out
