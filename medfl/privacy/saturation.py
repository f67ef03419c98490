"""Data minimization of scores: how certain a score is beyond what the decision needs is not released."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.class_sums import ClassSums
from medfl.privacy.directions import Directions
from medfl.privacy.protector import FeatureProtector, require_channels

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reach:
    """The part of each score that is released, [center - half, center + half].

    Attributes
    ----------
    center, half : ndarray of shape (k,), float64
        `half` >= 0, and above 0 for at least one direction.

    Raises
    ------
    ShapeError
        If the shapes differ, or a number is out of range.
    """

    center: Array
    half: Array

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        if self.center.ndim != 1 or self.center.shape != self.half.shape:
            raise ShapeError(
                f"center and half must both have shape (k,), found {self.center.shape}, {self.half.shape}."
            )
        finite = np.isfinite(self.center).all() and np.isfinite(self.half).all()
        if not finite or (self.half < 0).any() or not (self.half > 0).any():
            raise ShapeError("center and half must be finite, half not negative, and above 0 at least once.")

    def to_arrays(self) -> dict[str, Array]:
        """Return "center" and "half"."""
        return {"center": self.center, "half": self.half}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "Reach":
        """Build it from arrays that came over the wire.

        Raises
        ------
        ShapeError
            If the names, shapes or types are others.
        """
        if set(arrays) != {"center", "half"} or any(array.dtype != np.float64 for array in arrays.values()):
            raise ShapeError("a reach is the two float64 arrays 'center' and 'half'.")
        return cls(np.asarray(arrays["center"], dtype=np.float64), np.asarray(arrays["half"], dtype=np.float64))


def reach_between_classes(sums: ClassSums, directions: Directions, share: float) -> Reach:
    """Return the middle between the outermost class means of each direction, and a share of the way to them.

    Parameters
    ----------
    sums : ClassSums
    directions : Directions
        Fitted to the same sums.
    share : float
        1 keeps scores up to the class means, less keeps less; > 0.

    Raises
    ------
    ConfigError
        If the share is not above 0, or fewer than two classes occur.
    """
    present = sums.counts > 0
    if not share > 0 or present.sum() < 2:
        raise ConfigError(f"saturation needs a share above 0 and two classes that occur, got {share:g}.")
    means = directions.scores(sums.sums[present] / sums.counts[present, None])
    low, high = means.min(axis=0), means.max(axis=0)
    return Reach((low + high) / 2, share * (high - low) / 2)


class Saturation(FeatureProtector):
    """``clamp(score - center, -half, half) / max(half)``: in [-1, 1] at every position.

    Many studies then have the very same value. A direction on which class means do not differ becomes constant.

    Parameters
    ----------
    reach : Reach
    """

    name = "saturation"
    center: Tensor
    reach: Tensor

    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self.register_buffer("center", torch.tensor(reach.center, dtype=torch.float32), persistent=False)
        self.register_buffer("reach", torch.tensor(reach.half, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return saturated scores, same shape.

        Raises
        ------
        ShapeError
            If there is another number of channels.
        """
        require_channels(features.shape[1:], len(self.center))
        shape = (-1, *(1,) * (features.ndim - 2))
        reach = self.reach.view(shape)
        return torch.clamp(features - self.center.view(shape), -reach, reach) / self.reach.max()
