"""Which network does the task."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medfl.config.base import Count, Settings, Widths


class UNetNetwork(Settings):
    """MONAI's residual U-Net as the backbone, a 1x1 convolution as the head."""

    kind: Literal["unet"]
    channels: Widths = (16, 32, 64)
    strides: tuple[Count, ...] = (2, 2)
    residual_units: int = Field(default=2, ge=0, le=6)
    features: int = Field(default=8, ge=1, le=512)
    norm: Literal["instance", "batch", "group"] = "instance"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "UNetNetwork":
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError(f"strides must have {len(self.channels) - 1} numbers, got {len(self.strides)}")
        if self.norm == "group" and any(width % 4 for width in (*self.channels, self.features)):
            raise ValueError("norm 'group' has 4 groups: channels and features must be multiples of 4")
        return self


class DenseNetNetwork(Settings):
    """MONAI's DenseNet121 as the backbone, a linear head."""

    kind: Literal["densenet"]
    initial_features: int = Field(default=16, ge=4, le=256)
    growth_rate: int = Field(default=8, ge=2, le=64)
    block_layers: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)] = (2, 2, 2)


class EfficientNetNetwork(Settings):
    """EfficientNet-lite0 with public ImageNet weights, frozen; a small head on its features.

    Attributes
    ----------
    layer : str
        Where the network is cut: "pooled" is a vector of 1,280; "stride32" to "stride4" are maps of 320, 112, 40 and 24
        channels at a 32nd to a 4th of the picture's size.
    hidden : int
        Width of the head's hidden layer; 0 makes a linear head of a vector. Heads of masks need one.
    dropout : float
        In the head, in training.
    """

    kind: Literal["efficientnet_lite0"]
    layer: Literal["pooled", "stride32", "stride16", "stride8", "stride4"] = "pooled"
    hidden: int = Field(default=0, ge=0, le=1024)
    dropout: float = Field(default=0.0, ge=0, lt=1)


Network = Annotated[UNetNetwork | DenseNetNetwork | EfficientNetNetwork, Field(discriminator="kind")]
