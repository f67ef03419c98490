"""Simple, keyless protections to compare with. Nothing is proven about them: epsilon is infinite."""

import numpy as np
import torch
from torch import Tensor

from medfl.errors import ConfigError
from medfl.privacy.bottleneck import map_channels
from medfl.privacy.protector import FeatureProtector, require_channels, require_finite

_RANGE = 4.0


class ChannelProjection(FeatureProtector):
    """A public random orthonormal projection of C channels to fewer: minimizes without looking at the task.

    Parameters
    ----------
    channels, directions : int
        C, and how many remain; 1 <= directions <= C.
    seed : int
        Public.

    Raises
    ------
    ConfigError
        If there are more directions than channels, or none.
    """

    name = "projection"
    matrix: Tensor

    def __init__(self, channels: int, directions: int, *, seed: int) -> None:
        super().__init__()
        if not 1 <= directions <= channels:
            raise ConfigError(f"a projection of {channels} channels must keep 1 to {channels}, found {directions}.")
        gaussian = np.random.default_rng(seed).standard_normal((channels, directions))
        q, r = np.linalg.qr(gaussian)
        rows = (q * np.where(np.diag(r) < 0, -1.0, 1.0)).T
        self.register_buffer("matrix", torch.tensor(rows, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return projected features, float32."""
        require_finite(features)
        return map_channels(features, self.matrix)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with as many channels as directions."""
        require_channels(shape, self.matrix.shape[1])
        return (len(self.matrix), *shape[1:])


class Quantization(FeatureProtector):
    """Round to the middle of one of 2**bits equal steps between -4 and 4; what lies outside goes to the outer steps.

    Its gradient is 0.

    Parameters
    ----------
    bits : int
        1 to 8; with 1 bit only the sign remains.

    Raises
    ------
    ConfigError
        If `bits` is out of range.
    """

    name = "quantise"

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 8:
            raise ConfigError(f"bits must be 1 to 8, found {bits}.")
        self.bits = bits

    def forward(self, features: Tensor) -> Tensor:
        """Return rounded features, float32; `features` are standardized."""
        require_finite(features)
        levels = 2**self.bits
        step = 2 * _RANGE / levels
        number = torch.floor((features.float() + _RANGE) / step).clamp(0, levels - 1)
        rounded: Tensor = (number + 0.5) * step - _RANGE
        return rounded

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"bits={self.bits}"
