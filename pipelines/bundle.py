"""A trained model as a MONAI Bundle, and back."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from medfl.config.network import EfficientNetNetwork
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.config.task import Segmentation
from medfl.errors import ConfigError, RunFolderError
from medfl.results.atomic import write_bytes, write_text
from medfl.results.store import RunStore
from pipelines.build import build_pipeline, build_strategy
from pipelines.bundle_metadata import bundle_metadata
from pipelines.bundle_network import build_network, define_network
from pipelines.segmentation import WINDOW_OVERLAP

_INFERENCE, _METADATA = "configs/inference.json", "configs/metadata.json"
_TORCH, _SAFETENSORS = "models/model.pt", "models/model.safetensors"
_README, _LICENSE = "docs/README.md", "docs/license.txt"
_PERSONAL = """\
> This bundle holds the shared model. The figures below are of the models that each site made of it for itself.

"""
_LICENSE_TEXT = """\
The software that trained this model, medfl, is licensed under Apache-2.0. That license does not cover these weights.
Who holds the rights to them, and what the terms of the training data allow, has to be written here before the bundle
is given to anybody.
"""


def export_bundle(run: Path, out: Path) -> Path:
    """Write a run's model as a MONAI Bundle that loads with MONAI and torch alone.

    Parameters
    ----------
    run : Path
        Folder of a finished run.
    out : Path
        Folder to create; it must not exist, or be empty.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` holds something, the hub's model is not whole, or its network is not made of MONAI's parts.
    RunFolderError
        If the run has no model, or one that does not fit its settings.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("The folder of a bundle must be new or empty; it is not. Choose another --out.")
    store = RunStore(run)
    text, plan = store.read_settings()
    config = parse_config(text, source="config.yaml")
    sections, weights = _whole_model(config, store)
    personal = config.federation.personalize_epochs > 0
    metrics = store.read_metrics() if store.is_finished() and not personal else None
    inference = {"bundle_root": ".", **sections, "inferer": _inferer(config)}
    for folder in ("configs", "models", "docs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    torch.save(weights, packed)
    write_bytes(out / _TORCH, packed.getvalue())
    write_bytes(out / _SAFETENSORS, save_safetensors(weights))
    write_text(out / _README, (_PERSONAL if personal else "") + store.read_model_card())
    write_text(out / _LICENSE, _LICENSE_TEXT)
    write_text(out / _METADATA, json.dumps(bundle_metadata(config, plan, metrics), indent=2) + "\n")
    write_text(out / _INFERENCE, json.dumps(inference, indent=2) + "\n")
    return out


def load_bundle(folder: Path) -> nn.Module:
    """Read the network of a bundle that `export_bundle` wrote; no pickled code and no expression is run.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Module
        (B, C, *spatial) -> logits, in evaluation mode, on the CPU.

    Raises
    ------
    RunFolderError
        If a file is missing or broken, or the weights do not fit the network.
    """
    try:
        sections = json.loads((folder / _INFERENCE).read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{_INFERENCE} must be a readable JSON file; it is not.") from error
    if not isinstance(sections, dict):
        raise RunFolderError(f"{_INFERENCE} must hold named sections, found {type(sections).__name__}.")
    return _filled(build_network(sections), _weights(folder))


def _whole_model(config: Config, store: RunStore) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the network's description and its weights under the bundle's names; both are known to fit."""
    if isinstance(config.network, EfficientNetNetwork):
        raise ConfigError(
            "A bundle must load with MONAI and torch alone; the encoder of 'efficientnet_lite0' is a package of its "
            "own. Apply this model with: medfl predict"
        )
    network = build_pipeline(config, torch.device("cpu")).network
    model = store.read_model()
    kept = model.keys() - build_strategy(config, network, sites=1).shared(model).keys()
    if kept:
        raise ConfigError(
            f"A bundle must hold a whole model; with strategy {config.federation.strategy.kind!r} the sites keep "
            f"{len(kept)} of its {len(model)} arrays. Export a run with another strategy."
        )
    definition = define_network(config, network)
    weights = {definition.renamed(name): torch.from_numpy(array) for name, array in model.items()}
    _filled(build_network(definition.sections), weights)
    return definition.sections, weights


def _filled(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    try:
        network.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise RunFolderError("The weights must have the names and shapes of the network; they differ.") from error
    return network.eval()


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        if (folder / _SAFETENSORS).exists():
            return load_safetensors((folder / _SAFETENSORS).read_bytes())
        found = torch.load(folder / _TORCH, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise RunFolderError("The weights of a bundle must be readable without running code; they are not.") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise RunFolderError(f"{_TORCH} must hold a plain state dictionary; it does not.")
    return found


def _inferer(config: Config) -> dict[str, Any]:
    if isinstance(config.task, Segmentation) and config.task.sliding_window:
        return {
            "_target_": "monai.inferers.SlidingWindowInferer",
            "roi_size": list(config.task.patch),
            "sw_batch_size": 4,
            "overlap": WINDOW_OVERLAP,
            "mode": "gaussian",
        }
    return {"_target_": "monai.inferers.SimpleInferer"}
