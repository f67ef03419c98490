"""A run's network in the words of MONAI and torch, so that nobody needs medfl to build it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet
from torch import nn

from medfl.config.network import DenseNetNetwork
from medfl.config.settings import Config
from medfl.errors import ConfigError, RunFolderError
from medfl.networks.split_network import SplitNetwork

NETWORK = "network_def"
_BACKBONE, _HEAD, _TARGET = "backbone", "head", "_target_"
_CHAIN = f"$torch.nn.Sequential(@{_BACKBONE}, @{_HEAD})"
_CLASSES: dict[str, type[nn.Module]] = {
    "monai.networks.nets.UNet": UNet,
    "monai.networks.nets.DenseNet": DenseNet,
    "torch.nn.Conv2d": nn.Conv2d,
    "torch.nn.Conv3d": nn.Conv3d,
}

Sections = dict[str, Any]


@dataclass(frozen=True)
class NetworkDefinition:
    """How to build a network without medfl.

    Attributes
    ----------
    sections : dict
        Entries of a MONAI configuration; `network_def` is the network.
    prefixes : dict of str to str
        Start of an array's name in the run -> in the bundle. Longer starts come first.
    """

    sections: Sections
    prefixes: dict[str, str]

    def renamed(self, name: str) -> str:
        """Return the bundle's name of one of the run's arrays."""
        for ours, theirs in self.prefixes.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name


def define_network(config: Config, network: SplitNetwork) -> NetworkDefinition:
    """Describe a run's network.

    A segmentation is MONAI's U-Net and a 1x1 convolution; the head of a classification becomes MONAI's own last layer.

    Parameters
    ----------
    config : Config
    network : SplitNetwork
        Built from `config`.

    Raises
    ------
    ConfigError
        If the network does not consist of MONAI's and torch's own parts.
    """
    backbone, head = network.backbone, network.head
    if isinstance(backbone, UNet) and isinstance(head, nn.Conv2d | nn.Conv3d):
        sections = {_BACKBONE: _unet(backbone), _HEAD: _convolution(head), NETWORK: _CHAIN}
        return NetworkDefinition(sections, {f"{_BACKBONE}.": "0.", f"{_HEAD}.": "1."})
    if isinstance(backbone, DenseNet) and isinstance(config.network, DenseNetNetwork):
        sections = {NETWORK: _densenet(config, config.network)}
        return NetworkDefinition(sections, {f"{_HEAD}.1.": "class_layers.out.", f"{_BACKBONE}.": ""})
    raise ConfigError(
        f"A bundle must load with MONAI and torch alone; network {config.network.kind!r} needs a package of its own. "
        "Apply this model with: medfl predict"
    )


def build_network(sections: Mapping[str, Any]) -> nn.Module:
    """Build what `define_network` described; nothing but its few classes is ever called, no expression is evaluated.

    Raises
    ------
    RunFolderError
        If the sections are of another kind.
    """
    network = sections.get(NETWORK)
    if network == _CHAIN:
        return nn.Sequential(_built(sections.get(_BACKBONE)), _built(sections.get(_HEAD)))
    return _built(network)


def _built(section: object) -> nn.Module:
    target = section.get(_TARGET) if isinstance(section, dict) else None
    if not isinstance(section, dict) or target not in _CLASSES:
        raise RunFolderError(f"A network must be made of {', '.join(_CLASSES)}; use MONAI itself for other bundles.")
    arguments = {name: value for name, value in section.items() if name != _TARGET}
    try:
        return _CLASSES[str(target)](**arguments)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise RunFolderError(f"{target} must be described by its own arguments; MONAI refused them.") from error


def _unet(backbone: UNet) -> Sections:
    return {
        _TARGET: "monai.networks.nets.UNet",
        "spatial_dims": backbone.dimensions,
        "in_channels": backbone.in_channels,
        "out_channels": backbone.out_channels,
        "channels": list(backbone.channels),
        "strides": list(backbone.strides),
        "num_res_units": backbone.num_res_units,
        "norm": list(backbone.norm) if isinstance(backbone.norm, tuple) else backbone.norm,
        "dropout": backbone.dropout,
    }


def _convolution(head: nn.Conv2d | nn.Conv3d) -> Sections:
    return {
        _TARGET: f"torch.nn.{type(head).__name__}",
        "in_channels": head.in_channels,
        "out_channels": head.out_channels,
        "kernel_size": list(head.kernel_size),
    }


def _densenet(config: Config, network: DenseNetNetwork) -> Sections:
    return {
        _TARGET: "monai.networks.nets.DenseNet",
        "spatial_dims": config.task.dimensions,
        "in_channels": config.preprocessing.channels,
        "out_channels": len(config.task.classes),
        "init_features": network.initial_features,
        "growth_rate": network.growth_rate,
        "block_config": list(network.block_layers),
    }
