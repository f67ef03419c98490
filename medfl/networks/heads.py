"""Features to logits."""

from torch import Tensor, nn


def voxel_head(*, dimensions: int, features: int, classes: int) -> nn.Module:
    """Return a 1x1 convolution: (B, F, *spatial) -> (B, K, *spatial)."""
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return convolution(features, classes, kernel_size=1)


def vector_head(*, features: int, classes: int, dropout: float, hidden: int = 0) -> nn.Module:
    """Return dropout and a linear layer, with one hidden layer where asked for: (B, F) -> (B, K)."""
    if not hidden:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes))
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


def pooling_head(*, features: int, classes: int, dropout: float, hidden: int = 0) -> nn.Module:
    """Return a head of maps that needs no order of positions: (B, F, *spatial) -> (B, K).

    A 1x1 layer, where `hidden` asks for one, acts on every position before the mean; what follows is linear.
    """
    if not hidden:
        return nn.Sequential(_Mean(), nn.Dropout(dropout), nn.Linear(features, classes))
    return nn.Sequential(
        nn.Conv2d(features, hidden, kernel_size=1), nn.ReLU(), _Mean(), nn.Dropout(dropout), nn.Linear(hidden, classes)
    )


def map_head(*, features: int, classes: int, hidden: int, stride: int) -> nn.Module:
    """Return a decoder of maps to masks: (B, F, H, W) -> (B, K, H * stride, W * stride).

    Two 3x3 layers with group normalization, then every position writes its own `stride` x `stride` tile of logits.
    """
    return nn.Sequential(
        nn.Conv2d(features, hidden, kernel_size=3, padding=1),
        nn.GroupNorm(1, hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, kernel_size=3, padding=1),
        nn.GroupNorm(1, hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, classes * stride**2, kernel_size=1),
        nn.PixelShuffle(stride),
    )


class _Mean(nn.Module):
    """Mean over all positions: (B, F, *spatial) -> (B, F)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).mean(dim=2)
