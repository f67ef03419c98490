"""The one shape of everything that protects features."""

from torch import Tensor, nn


class FeatureProtector(nn.Module):
    """Features in, protected features out, shapes (B, C), (B, C, H, W) or (B, C, D, H, W).

    Subclasses implement `forward`. A protector is part of the network, so that nothing behind it ever sees clear
    features.
    """

    name: str = "protector"

    def forward(self, features: Tensor) -> Tensor:
        """Return protected features; batch size 0 is legal."""
        raise TypeError(f"{type(self).__name__} must implement forward(features).")


class NoProtection(FeatureProtector):
    """Features as they are; the arm every other one is compared with."""

    name = "none"

    def forward(self, features: Tensor) -> Tensor:
        """Return `features` unchanged."""
        return features
