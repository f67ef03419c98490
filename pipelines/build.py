"""The one place where a `kind` in the settings becomes an object."""

import secrets
from typing import Any

import torch

from medfl.config.federation import (
    FedAdamStrategy,
    FedAvgStrategy,
    FedBNStrategy,
    FedProxStrategy,
    ScaffoldStrategy,
)
from medfl.config.settings import Config
from medfl.config.task import Segmentation
from medfl.config.training_privacy import DpFedAvg as DpFedAvgSettings
from medfl.errors import ConfigError
from medfl.federation.strategies.dp_fedavg import DpFedAvg
from medfl.federation.strategies.fedadam import FedAdam
from medfl.federation.strategies.fedavg import FedAvg
from medfl.federation.strategies.fedbn import FedBN
from medfl.federation.strategies.fedprox import FedProx
from medfl.federation.strategies.scaffold import Scaffold
from medfl.federation.strategies.strategy import Strategy
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.keystream import KEY_BYTES, Keystream
from medfl.privacy.update_accounting import update_noise_for
from medfl.training.allocator import keep_freed_memory
from pipelines.classification import ClassificationPipeline
from pipelines.pipeline import Pipeline
from pipelines.segmentation import SegmentationPipeline


def build_pipeline(config: Config, device: torch.device) -> Pipeline[Any]:
    """Return the task's pipeline with freshly initialized weights, decided by the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if isinstance(config.task, Segmentation):
            return SegmentationPipeline(config, device)
        return ClassificationPipeline(config, device)


def build_strategy(config: Config, network: SplitNetwork, *, sites: int) -> Strategy:
    """Return the aggregation strategy; `sites` is how many the run is planned for."""
    privacy = config.privacy
    if isinstance(privacy, DpFedAvgSettings):
        noise = update_noise_for(privacy.epsilon, privacy.delta, config.training.rounds)
        return DpFedAvg(privacy.clip, noise, sites, Keystream(secrets.token_bytes(KEY_BYTES)))
    settings = config.federation.strategy
    match settings:
        case FedAvgStrategy():
            return FedAvg()
        case FedProxStrategy():
            return FedProx(settings.mu)
        case FedBNStrategy():
            return FedBN(normalization_names(network))
        case FedAdamStrategy():
            return FedAdam(settings.learning_rate, beta_1=settings.beta_1, beta_2=settings.beta_2, tau=settings.tau)
        case ScaffoldStrategy():
            return Scaffold([name for name, p in network.named_parameters() if p.requires_grad])


def choose_device(config: Config) -> torch.device:
    """Return where to compute; set the number of threads on purpose, and keep freed memory for the next step.

    Raises
    ------
    ConfigError
        If a GPU is demanded and there is none.
    """
    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)
    keep_freed_memory()
    has_gpu = torch.cuda.is_available()
    if config.compute.device == "cuda" and not has_gpu:
        raise ConfigError("compute.device is 'cuda', but no usable GPU was found. Use 'auto' or 'cpu'.")
    return torch.device("cuda" if has_gpu and config.compute.device != "cpu" else "cpu")


def normalization_names(network: SplitNetwork) -> list[str]:
    """Return the names of all arrays that belong to normalization layers."""
    shared = network.shared_state()
    norms = [
        name
        for name, module in network.named_modules()
        if "norm" in type(module).__name__.lower() and not list(module.children())
    ]
    return [array for array in shared if any(array.startswith(f"{norm}.") for norm in norms)]
