"""Tiny runs."""

from collections.abc import Callable, Iterator

import pytest
import torch

from medfl.config.reading import parse_config
from medfl.config.settings import Config

TASKS = {
    "segmentation": "task: {{kind: segmentation, dimensions: {d}, classes: {{a: 1, b: 2}}, patch: {patch}}}\n"
    "network: {{kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4, norm: batch}}\n",
    "classification": "task: {{kind: classification, dimensions: {d}, "
    "classes: {{normal: [normal], lesion: [lesion]}}}}\n"
    "network: {{kind: densenet, initial_features: 4, growth_rate: 2, block_layers: [1, 1]}}\n",
}
REST = """\
name: tiny
data:
  source: {{kind: phantoms, dimensions: {d}, subjects: 60, visits: 1, sites: 2}}
  sites: {{kind: column}}
  split: {{train: 0.6, validation: 0.2, test: 0.2}}
training: {{rounds: 2, batch_size: 8, learning_rate: 0.01, max_gradient_norm: 12}}
evaluation: {{minimum_subjects: 3, uncertainty_passes: 1}}
"""
MakeConfig = Callable[..., Config]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    def make(*overrides: str, task: str = "segmentation", dimensions: int = 2) -> Config:
        text = (REST + TASKS[task]).format(d=dimensions, patch=[16] * dimensions)
        return parse_config(text, overrides=overrides)

    return make
