"""Data minimization: only the few directions of the features that the task needs."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.privacy.directions import Directions
from medfl.privacy.protector import FeatureProtector, require_channels, require_finite


class TaskBottleneck(FeatureProtector):
    """Features of C channels to the k scores of `Directions`; on maps a 1x1 convolution.

    Nothing here is secret and nothing is proven: what the k scores tell about a subject, they tell.

    Parameters
    ----------
    directions : Directions
    """

    name = "bottleneck"
    matrix: Tensor
    bias: Tensor

    def __init__(self, directions: Directions) -> None:
        super().__init__()
        self.directions = directions
        shift = -directions.matrix @ directions.mean
        self.register_buffer("matrix", torch.tensor(directions.matrix, dtype=torch.float32), persistent=False)
        self.register_buffer("bias", torch.tensor(shift, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores of shape (B, k, *spatial), float32.

        Raises
        ------
        ShapeError
            If the features have another number of channels.
        PrivacyError
            If a feature is not finite.
        """
        require_finite(features)
        return map_channels(features, self.matrix, self.bias)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with k channels."""
        require_channels(shape, self.matrix.shape[1])
        return (len(self.matrix), *shape[1:])

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the directions as plain arrays; see `Directions.to_arrays`."""
        return self.directions.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "TaskBottleneck":
        """Build it from what `to_arrays` returned; see `Directions.from_arrays`."""
        return cls(Directions.from_arrays(arrays))


def map_channels(features: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply the channels at every position by a matrix.

    Parameters
    ----------
    features : Tensor of shape (B, C, *spatial)
        B may be 0.
    matrix : Tensor of shape (k, C), float32
    bias : Tensor of shape (k,), float32, optional
        Added at every position.

    Returns
    -------
    Tensor of shape (B, k, *spatial), float32

    Raises
    ------
    ShapeError
        If the features have another number of channels.
    """
    require_channels(features.shape[1:], matrix.shape[1])
    if features.ndim == 2:
        return torch.nn.functional.linear(features.float(), matrix, bias)
    mapped = torch.matmul(matrix, features.float().flatten(2))
    if bias is not None:
        mapped = mapped + bias[:, None]
    return mapped.reshape(features.shape[0], len(matrix), *features.shape[2:])
