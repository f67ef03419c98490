"""The Keyed Nonlinear Transform (KNT): a keyed obfuscation of features.

KNT-style, after Lee and Kim 2026 (arXiv 2605.14123), of which only the abstract is public to us. It adds access control
and breaks naive linkage across keys. It gives no formal guarantee, does not stop an attacker who trains on keyed
features, has no integrity, and protects no weight updates.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.errors import ConfigError, KeyFileError, ShapeError
from medfl.privacy.keys import ContextKey
from medfl.privacy.keystream import Keystream
from medfl.privacy.mixing import (
    Keyed,
    MixerName,
    Program,
    Wave,
    block_targets,
    make_mixer,
    make_wave,
)
from medfl.privacy.protector import FeatureProtector, require_finite
from medfl.results.canonical import sha256

GLOBAL_LIMIT = 65_536  # positions that one permutation may cover
_CACHED = 131_072  # values that are worked on together on a CPU, so that they stay in its cache
_EPSILON = 1e-6  # added to the public scale of a channel
_CHECKED, _CHECK_GRID = 4096, 1024  # values in a key check, and steps per unit


@dataclass(frozen=True)
class TransformSettings:
    """What is public about a transform.

    Parameters
    ----------
    mode : {"invertible", "folding", "affine"}
        "invertible": the key holder can undo it, 0 < kappa < 1. "folding": many-to-one, kappa > 1, costs utility.
        "affine": no nonlinearity, the weak control of an audit; kappa and omega are not used.
    rounds : int
        Mixing and nonlinearity are repeated so often; 1 to 8.
    kappa : float
        Upper end of a channel's slope deviation: slopes lie in [1 - kappa, 1 + kappa].
    omega : (float, float)
        Range of the nonlinearity's frequencies, in radians per standard deviation, 0 < lower <= upper.
    mixer : {"hadamard", "haar", "none"}
    block : int
        Largest Walsh-Hadamard block, a power of two from 2 to 1,024.
    permutation : {"global", "block", "none"}
        Of positions. "global" up to 65,536 positions; "block": blocks of `block_shape`, then positions inside each.
    block_shape : tuple of int, optional
        With permutation="block" only; one size per spatial axis, dividing it.

    Raises
    ------
    ConfigError
        If a setting is out of range, or the settings together change nothing.
    """

    mode: Literal["invertible", "folding", "affine"] = "invertible"
    rounds: int = 2
    kappa: float = 0.9
    omega: tuple[float, float] = (1.0, 2.0)
    mixer: MixerName = "hadamard"
    block: int = 16
    permutation: Literal["global", "block", "none"] = "global"
    block_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _one_of("mode", self.mode, ("invertible", "folding", "affine"))
        _one_of("mixer", self.mixer, ("hadamard", "haar", "none"))
        _one_of("permutation", self.permutation, ("global", "block", "none"))
        if not _is_count(self.rounds) or self.rounds > 8:
            raise ConfigError(f"rounds must be a whole number from 1 to 8, got {self.rounds!r}.")
        if self.mode == "invertible" and not 0 < self.kappa < 1:
            raise ConfigError(f"kappa must lie in (0, 1) so that the transform can be undone, got {self.kappa!r}.")
        if self.mode == "folding" and not 1 < self.kappa < math.inf:
            raise ConfigError(f"kappa must be above 1 and finite in folding mode, got {self.kappa!r}.")
        if len(self.omega) != 2 or not 0 < self.omega[0] <= self.omega[1] < math.inf:
            raise ConfigError(f"omega must be two frequencies, 0 < lower <= upper, got {self.omega!r}.")
        if not _is_count(self.block) or self.block & (self.block - 1) or not 2 <= self.block <= 1024:
            raise ConfigError(f"block must be a power of two from 2 to 1024, got {self.block!r}.")
        if (self.permutation == "block") != (self.block_shape is not None):
            raise ConfigError('block_shape belongs to permutation="block", and only there; give both or neither.')
        if self.block_shape is not None and not (self.block_shape and all(map(_is_count, self.block_shape))):
            raise ConfigError(f"block_shape must hold whole numbers of at least 1, got {self.block_shape!r}.")
        if (self.mode, self.mixer, self.permutation) == ("affine", "none", "none"):
            raise ConfigError("these settings change nothing; choose a mixer, a permutation or a nonlinear mode.")

    def digest(self) -> str:
        """Return the SHA-256 of the settings' canonical JSON, in hexadecimal; it goes into the key's context."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return sha256({"transform": "knt/v1", **values})


class KeyedNonlinearTransform(FeatureProtector):
    r"""Mix channels and bend values ``rounds`` times, mix once more, then move positions; everything from a key.

    With u = (z - mean) / (scale + 1e-6) at each position: u <- phi(B u) for each round, then u <- B u, where B is
    orthogonal and phi(x) = x + a sin(omega x + theta) per channel. Parameters are shared by all positions. Under one
    key, distances between two inputs change at most by the factors (1 - kappa)^rounds and (1 + kappa)^rounds: who
    resembles whom stays visible.

    Computes in float32 with parameters derived in float64, and returns float32; float64 stays float64. Keyed tensors
    are neither parameters nor buffers: `state_dict` is empty, pickling is refused, `.to(device)` moves them, casting
    to another dtype leaves them alone.

    Parameters
    ----------
    key : ContextKey
        Used here and not kept.
    shape : tuple of int
        (C, *spatial) of the features, 0 to 3 spatial axes.
    settings : TransformSettings
    mean, scale : Tensor of shape (C,), optional
        Public channel statistics, scale >= 0; never of the batch, nor of data that must not become known. Without
        them features are taken as they are.

    Raises
    ------
    ConfigError
        If the settings do not fit the shape, or the statistics are not finite.
    ShapeError
        If shape or statistics have wrong sizes.
    """

    name = "knt"

    def __init__(
        self,
        key: ContextKey,
        shape: tuple[int, ...],
        settings: TransformSettings,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= len(shape) <= 4 or not all(map(_is_count, shape)):
            raise ShapeError(f"shape must be (C, *spatial) with 0 to 3 spatial axes, all at least 1, got {shape}.")
        self.shape, self.settings, self.key_id = tuple(shape), settings, key.key_id
        with torch.inference_mode(False):
            statistics = _statistic(mean, shape[0]), _divisor(scale, shape[0])
            self._keyed = _Keyed(key, self.shape, settings, *statistics)

    def forward(self, features: Tensor) -> Tensor:
        """Return keyed features of the same shape, (B, C, *spatial); B = 0 is legal. Differentiable.

        Raises
        ------
        ShapeError
            If (C, *spatial) is not the key's, or the features are no floating-point numbers.
        PrivacyError
            If a feature is NaN or infinite, or leaves the range of the dtype; nothing was released.
        """
        self._check(features)
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return _finite(self._keyed.forward(features))
        return _finite(self._keyed.forward(features))

    def inverse(self, features: Tensor) -> Tensor:
        """Return the features that `forward` was given; float64 inside, the input's precision outside. Differentiable.

        Solves x + a sin(omega x + theta) = y per value with Newton steps kept inside a bracket. Not in folding mode.

        Raises
        ------
        ConfigError
            In folding mode, where several inputs share an output.
        ShapeError, PrivacyError
            As `forward`.
        """
        if self.settings.mode == "folding":
            raise ConfigError("a folding transform has no inverse; choose mode invertible or affine.")
        self._check(features)
        with torch.autocast(features.device.type, enabled=False):
            return _finite(self._keyed.inverse(_finite(features)))

    def describe(self) -> dict[str, Any]:
        """Return what may be known of this transform: its name, key id, settings digest and shape."""
        return {
            "transform": self.name,
            "key_id": self.key_id,
            "settings": self.settings.digest(),
            "shape": list(self.shape),
        }

    def confirm(self, description: Mapping[str, Any]) -> None:
        """Compare with another transform's `describe`, for instance of the one that a stored head was trained behind.

        Raises
        ------
        KeyFileError
            If key id, settings or shape differ.
        """
        own = self.describe()
        different = sorted(name for name in own if own[name] != description.get(name))
        if different:
            raise KeyFileError(
                f"this was made behind another transform: {', '.join(different)} differ. "
                f"Expected key id {description.get('key_id')}, this key is {self.key_id}; take the key it names."
            )

    def extra_repr(self) -> str:
        """Return what `describe` tells; no keyed value."""
        return f"key_id={self.key_id}, shape={self.shape}, {self.settings}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeyedNonlinearTransform":
        """Return a copy; keyed tensors never change, so both may hold the same."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled: a file would hold what the key hides."""
        raise TypeError("a keyed transform cannot be pickled; build it again from its key, and store `describe()`.")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "KeyedNonlinearTransform":
        """Follow `fn` to its device; there is no parameter or buffer that it could cast."""
        device = fn(torch.empty(0, device=self._keyed.device)).device
        if device != self._keyed.device:
            with torch.inference_mode(False):
                self._keyed = self._keyed.to(device)
        return self

    def _check(self, features: Tensor) -> None:
        if features.shape[1:] != self.shape:
            raise ShapeError(f"this key is for features (B, *{self.shape}), got {tuple(features.shape)}.")
        if not features.is_floating_point():
            raise ShapeError(f"features must be floating-point numbers, got {features.dtype}.")


def key_check(transform: KeyedNonlinearTransform) -> bytes:
    """Return what the transform makes of a fixed public tensor, rounded so that every platform finds the same bytes.

    Up to 4,096 values in steps of 1/1024, little-endian int32. They tell about the key: feed them to a keyed tag only.
    """
    count = math.prod(transform.shape)
    probe = torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + 0.3).view(1, *transform.shape)
    with torch.no_grad():
        output = transform._keyed.to(torch.device("cpu")).forward(probe).reshape(-1)
    steps = (output[:: -(-count // _CHECKED)] * _CHECK_GRID).round().to(torch.int32).numpy()
    tag_input: bytes = steps.astype("<i4").tobytes()
    return tag_input


class _Keyed(Keyed):
    """Everything that follows from a key, and the two directions."""

    def __init__(
        self, key: ContextKey, shape: tuple[int, ...], settings: TransformSettings, mean: Tensor, scale: Tensor
    ) -> None:
        rounds = range(1, settings.rounds + 1)
        self.shape, self.positions = shape, math.prod(shape[1:])
        self.mixers = [
            make_mixer(settings.mixer, channels=shape[0], block=settings.block, stream=key.stream(f"mix|{number}"))
            for number in (*rounds, settings.rounds + 1)
        ]
        self.waves: list[Wave | None] = [None] * settings.rounds
        if settings.mode != "affine":
            self.waves = [
                make_wave(shape[0], kappa=settings.kappa, omega=settings.omega, stream=key.stream(f"nl|{number}"))
                for number in rounds
            ]
        self.target: Tensor | None = None
        if settings.permutation == "block" or (settings.permutation == "global" and self.positions > 1):
            places = _position_targets(shape[1:], settings.block_shape, key.stream("perm"))
            self.target = torch.from_numpy(places)
        self.source = None if self.target is None else torch.argsort(self.target)
        self.mean, self.scale = mean, scale
        self._programs: dict[tuple[torch.dtype, bool], Program] = {}
        self._program(torch.float32, vector=self.positions == 1)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def _program(self, dtype: torch.dtype, *, vector: bool) -> Program:
        program = self._programs.get((dtype, vector))
        if program is None:
            waves = [*self.waves, None]
            with torch.inference_mode(False):  # what is made here must also serve autograd
                program = Program(self.mixers, waves, mean=self.mean, scale=self.scale, dtype=dtype, vector=vector)
            self._programs[dtype, vector] = program
        return program

    def forward(self, features: Tensor) -> Tensor:
        count = max(1, _CACHED // math.prod(self.shape))
        if len(features) <= count or features.device.type != "cpu":
            return self._forward(features)
        return torch.cat([self._forward(features[i : i + count]) for i in range(0, len(features), count)])

    def _forward(self, features: Tensor) -> Tensor:
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        batch, channels, positions = features.shape[0], self.shape[0], self.positions
        program = self._program(dtype, vector=batch * positions == 1)
        output = program(self._flat(features, dtype))
        if batch == 1:
            if self.source is not None:
                output = output.index_select(1, self.source)
            return output.view(features.shape)
        output = output.view(channels, batch, positions)
        if self.source is not None:
            output = output.index_select(2, self.source)
        return output.transpose(0, 1).reshape(features.shape)

    def inverse(self, features: Tensor) -> Tensor:
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        batch, channels, positions = features.shape[0], self.shape[0], self.positions
        flat = self._flat(features, torch.float64)
        if self.target is not None:
            flat = flat.view(channels, batch, positions).index_select(2, self.target).view(channels, batch * positions)
        flat = self.mixers[-1].transpose(flat)
        for mixer, wave in zip(reversed(self.mixers[:-1]), reversed(self.waves), strict=True):
            flat = mixer.transpose(flat if wave is None else wave.solve(flat))
        clear = (flat * self.scale[:, None] + self.mean[:, None]).view(channels, batch, positions)
        return clear.transpose(0, 1).reshape(features.shape).to(dtype)

    def _flat(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """Return (C, B * positions), without copying for B = 1."""
        batch, channels, positions = features.shape[0], self.shape[0], self.positions
        features = features.to(dtype)
        if batch == 1:
            return features.reshape(channels, positions)
        return features.reshape(batch, channels, positions).transpose(0, 1).reshape(channels, batch * positions)


def _position_targets(
    spatial: tuple[int, ...], block_shape: tuple[int, ...] | None, stream: Keystream
) -> NDArray[np.int64]:
    """Return where each position goes, row-major, int64 of shape (S,)."""
    if block_shape is not None:
        return block_targets(spatial, block_shape, stream)
    positions = math.prod(spatial)
    if positions > GLOBAL_LIMIT:
        raise ConfigError(
            f"one permutation covers at most {GLOBAL_LIMIT:,} positions, these features have {positions:,}; "
            'choose permutation="block" with a block_shape.'
        )
    return stream.permutation(positions)


def _statistic(values: Tensor | None, channels: int) -> Tensor:
    if values is None:
        return torch.zeros(channels, dtype=torch.float64)
    if values.shape != (channels,):
        raise ShapeError(f"channel statistics must have shape ({channels},), got {tuple(values.shape)}.")
    if not bool(torch.isfinite(values).all()):
        raise ConfigError("channel statistics must be finite; compute them on public data that is.")
    return values.detach().cpu().double().clone()


def _divisor(scale: Tensor | None, channels: int) -> Tensor:
    if scale is None:
        return torch.ones(channels, dtype=torch.float64)
    values = _statistic(scale, channels) + _EPSILON
    if bool((values < _EPSILON).any()):
        raise ConfigError("the scale of a channel must be at least 0; give standard deviations.")
    return values


def _finite(features: Tensor) -> Tensor:
    """Return features whose sum is finite, for then all of them are; look at each one only where it is not."""
    if not math.isfinite(features.detach().sum().item()):
        require_finite(features)
    return features


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
