"""Features to logits."""

from torch import nn


def voxel_head(*, dimensions: int, features: int, classes: int) -> nn.Module:
    """Return a 1x1 convolution: (B, F, *spatial) -> (B, K, *spatial)."""
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return convolution(features, classes, kernel_size=1)


def vector_head(*, features: int, classes: int, dropout: float) -> nn.Module:
    """Return dropout and a linear layer: (B, F) -> (B, K)."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes))
