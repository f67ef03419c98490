"""The one shape of everything that protects features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medfl.errors import PrivacyError, ShapeError


class FeatureProtector(nn.Module):
    """Features in, protected features out, shapes (B, C), (B, C, H, W) or (B, C, D, H, W).

    Subclasses implement `forward`; those that change the number of channels also `out_shape`. A protector is part of
    the network, so that nothing behind it ever sees clear features. It adds nothing to `state_dict`, which sites and
    hub exchange: what it needs it keeps in buffers that are not persistent.
    """

    name: str = "protector"

    def forward(self, features: Tensor) -> Tensor:
        """Return protected features; batch size 0 is legal."""
        raise TypeError(f"{type(self).__name__} must implement forward(features).")

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one study's protected features, from the shape (C, *spatial) of its features."""
        return shape


class NoProtection(FeatureProtector):
    """Features as they are; the arm every other one is compared with."""

    name = "none"

    def forward(self, features: Tensor) -> Tensor:
        """Return `features` unchanged."""
        return features


class ProtectorChain(FeatureProtector):
    """Several protectors, one after the other; none at all leaves features as they are.

    Its name joins the names of its parts with "+", without those that do nothing.

    Parameters
    ----------
    protectors : sequence of FeatureProtector
        The first sees the clear features.
    """

    def __init__(self, protectors: Sequence[FeatureProtector]) -> None:
        super().__init__()
        self.protectors = nn.ModuleList(protectors)
        self._parts = tuple(protectors)
        names = [part.name for part in self._parts if part.name != NoProtection.name]
        self.name = "+".join(names) or NoProtection.name

    def forward(self, features: Tensor) -> Tensor:
        """Return the last protector's output."""
        for part in self._parts:
            features = part(features)
        return features

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the last protector's shape."""
        for part in self._parts:
            shape = part.out_shape(shape)
        return shape


def require_channels(shape: Sequence[int], channels: int) -> None:
    """Check the channels of features.

    Parameters
    ----------
    shape : sequence of int
        (C, *spatial), without the batch.
    channels : int

    Raises
    ------
    ShapeError
        If C is another number, or there is none.
    """
    if not shape or shape[0] != channels:
        raise ShapeError(f"features must have {channels} channels, (B, {channels}, ...); found (B, *{tuple(shape)}).")


def require_finite(features: Tensor) -> None:
    """Refuse features that are not finite.

    Raises
    ------
    PrivacyError
        Nothing is said about where or which.
    """
    if not bool(torch.isfinite(features).all()):
        raise PrivacyError("features must be finite, found NaN or infinity. Nothing was released; check the images.")
