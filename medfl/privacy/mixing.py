"""The keyed parts of the transform: channel mixing, the wave between two mixers, the places of positions.

A mixer is a product of stages; a stage is a block-diagonal orthogonal matrix followed by an order of the channels.
`AffineMix` is a mixer merged with scales and shifts to run fast. Everything drawn from a keystream is float64 and as
secret as the key.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard
from torch import Tensor

from medfl.errors import ConfigError
from medfl.privacy.keystream import Keystream, Secret

MixerName = Literal["hadamard", "haar", "none"]
HAAR_LIMIT = 512  # channels of the largest matrix from one QR decomposition
TOLERANCE, ITERATIONS = 1e-12, 60  # of the keyed inverse
DENSE_LIMIT = 64  # up to here one dense matrix is faster than two rounds of blocks


class Keyed(Secret):
    """Values that follow from a key: never printed or pickled; nothing changes them, so a copy is the same object."""

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return the object itself."""
        return self

    def to(self, device: torch.device) -> Self:
        """Return the same values on another device."""
        twin = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(twin, name, _moved(value, device))
        return twin


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, Tensor | Keyed):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_moved(part, device) for part in value)
    if isinstance(value, dict):
        return {name: _moved(part, device) for name, part in value.items()}
    return value


class Stage(Keyed):
    """Signs, a block-diagonal matrix and an order of the channels: ``y = (blocks @ (signs * x))[order]``.

    Parameters
    ----------
    blocks : tuple of Tensor of shape (G, k, k)
        Runs of equally large orthogonal blocks along the diagonal. A run of shape (1, k, k) repeats along the channels.
    signs : Tensor of shape (C,) or None
    order : Tensor of shape (C,), int64, or None
    """

    def __init__(self, blocks: tuple[Tensor, ...], signs: Tensor | None, order: Tensor | None) -> None:
        self.blocks, self.signs, self.order = blocks, signs, order

    def matrices(self, channels: int) -> tuple[Tensor, ...]:
        """Return the runs with the signs inside, none of them repeated."""
        if self.signs is None:
            return self.blocks
        size = self.blocks[0].shape[-1]
        return (self.blocks[0] * self.signs.view(channels // size, 1, size),)


class Mixer(Keyed):
    """An orthogonal matrix B of C channels, kept in float64 on one device.

    Parameters
    ----------
    channels : int
    stages : tuple of Stage
        The first is applied first; none at all is the identity.
    """

    def __init__(self, channels: int, stages: tuple[Stage, ...]) -> None:
        self.channels, self.stages = channels, stages

    def apply(self, features: Tensor) -> Tensor:
        """Return B x for float64 features of shape (C, N)."""
        for stage in self.stages:
            features = _blocks(stage.matrices(self.channels), features)
            features = features if stage.order is None else features[stage.order]
        return features

    def transpose(self, features: Tensor) -> Tensor:
        """Return Bᵀ x, which undoes `apply`, for float64 features of shape (C, N)."""
        for stage in reversed(self.stages):
            features = features if stage.order is None else features[torch.argsort(stage.order)]
            features = _blocks(tuple(run.mT for run in stage.matrices(self.channels)), features)
        return features


def make_mixer(name: MixerName, *, channels: int, block: int, stream: Keystream) -> Mixer:
    """Draw a mixer from a keystream.

    "hadamard": two rounds of keyed signs, a Walsh-Hadamard matrix / sqrt(b) on each b channels, a keyed order; b is
    the largest power of two that divides C, at most `block`. If C is odd: as "haar". "haar": Q of a Gaussian matrix's
    QR decomposition, columns times sign(diag R); above 512 channels two rounds of nearly equal groups of at most 512
    and a keyed order. "none": the identity.

    Parameters
    ----------
    name : {"hadamard", "haar", "none"}
    channels : int
        At least 1.
    block : int
        A power of two >= 2; only "hadamard" reads it.
    stream : Keystream
        Read from its start, by this mixer alone.

    Raises
    ------
    ConfigError
        If the name is unknown or there is no channel.
    """
    if channels < 1:
        raise ConfigError(f"a mixer needs at least one channel, got {channels}.")
    if name == "none":
        return Mixer(channels, ())
    if name not in ("hadamard", "haar"):
        raise ConfigError(f"mixer must be hadamard, haar or none, got {name!r}.")
    if name == "hadamard" and channels % 2 == 0:
        size = min(block, channels & -channels)
        walsh = torch.from_numpy(hadamard(size) / np.sqrt(size))[None]
        return Mixer(channels, tuple(_hadamard_stage(walsh, channels, stream) for _ in range(2)))
    count = -(-channels // HAAR_LIMIT)
    if count == 1:
        return Mixer(channels, (Stage((haar(channels, stream)[None],), None, None),))
    return Mixer(channels, tuple(_haar_stage(channels, count, stream) for _ in range(2)))


def haar(size: int, stream: Keystream) -> Tensor:
    """Return a Haar-distributed orthogonal matrix of shape (size, size), float64 (Mezzadri 2007, section 5)."""
    q, r = np.linalg.qr(stream.normals(size * size).reshape(size, size))
    return torch.from_numpy(q * np.where(np.diag(r) < 0, -1.0, 1.0))


def _hadamard_stage(walsh: Tensor, channels: int, stream: Keystream) -> Stage:
    signs = torch.from_numpy(stream.signs(channels))
    return Stage((walsh,), signs, torch.from_numpy(stream.permutation(channels)))


def _haar_stage(channels: int, count: int, stream: Keystream) -> Stage:
    size, larger = divmod(channels, count)
    sizes = [size + 1] * larger + [size] * (count - larger)
    blocks = [haar(each, stream) for each in sizes]
    runs = [torch.stack(run) for run in (blocks[:larger], blocks[larger:]) if run]
    return Stage(tuple(runs), None, torch.from_numpy(stream.permutation(channels)))


def _blocks(runs: tuple[Tensor, ...], features: Tensor) -> Tensor:
    """Multiply (C, N) by a block-diagonal matrix, given as runs of shape (G, k, k)."""
    if len(runs) == 1:
        return _run(runs[0], features)
    return torch.cat([_run(run, part) for run, part in zip(runs, _parts(features, runs), strict=True)])


def _parts(values: Tensor, runs: tuple[Tensor, ...]) -> list[Tensor]:
    """Cut (C, ...) into what belongs to each run."""
    ends = list(accumulate(run.shape[0] * run.shape[1] for run in runs))
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _run(run: Tensor, features: Tensor) -> Tensor:
    groups, size, _ = run.shape
    if groups == 1:
        return torch.mm(run[0], features)
    return torch.bmm(run, features.view(groups, size, features.shape[1])).view(features.shape)


def unordered(values: Tensor, order: Tensor | None) -> Tensor:
    """Return (C,) values as they stand before the channels are put in an order."""
    return values if order is None else values[torch.argsort(order)]


class AffineMix(Keyed):
    """``x -> (after * B (before * x) + shift)``, for features (C, N), with its last order left to the caller.

    What is elementwise and comes next can so be done before that order, with parameters that went through `unordered`.
    Small mixers become one dense matrix.

    Parameters
    ----------
    mixer : Mixer
    before, after, shift : Tensor of shape (C,), float64
    dtype : dtype
        In which features are multiplied.
    """

    def __init__(self, mixer: Mixer, *, before: Tensor, after: Tensor, shift: Tensor, dtype: torch.dtype) -> None:
        channels = mixer.channels
        stages = [(s.matrices(channels), s.order) for s in mixer.stages]
        if stages and channels <= DENSE_LIMIT:
            identity = torch.eye(channels, dtype=torch.float64, device=before.device)
            stages = [((mixer.apply(identity)[None],), None)]
        self.order = stages[-1][1] if stages else None
        after, shift = unordered(after, self.order), unordered(shift, self.order)
        self._scale = None if stages else (before * after).to(dtype)[:, None]
        if stages:
            stages[0] = (_scaled(stages[0][0], before, columns=True), stages[0][1])
            stages[-1] = (_scaled(stages[-1][0], after, columns=False), stages[-1][1])
        self._stages = [(tuple(run.to(dtype) for run in runs), order) for runs, order in stages]
        self._shift = shift.to(dtype)[:, None]

    def __call__(self, features: Tensor) -> Tensor:
        """Return a new (C, N) tensor; autograd passes through."""
        if self._scale is not None:
            return torch.addcmul(self._shift, features, self._scale)
        for number, (runs, order) in enumerate(self._stages, start=1):
            features = _blocks(runs, features)
            if order is not None and number < len(self._stages):
                features = features.index_select(0, order)
        return features.add_(self._shift)


class HadamardVectorMix(Keyed):
    """`AffineMix` of a "hadamard" mixer for one vector, (C,): signs and one small product instead of C / b products."""

    def __init__(self, mixer: Mixer, *, before: Tensor, after: Tensor, shift: Tensor, dtype: torch.dtype) -> None:
        self.order = mixer.stages[-1].order
        self._walsh = mixer.stages[0].blocks[0][0].to(dtype)
        scales = [torch.ones_like(before) if stage.signs is None else stage.signs for stage in mixer.stages]
        scales[0] = scales[0] * before
        self._stages = [(scale.to(dtype), s.order) for scale, s in zip(scales, mixer.stages, strict=True)]
        self._after, self._shift = unordered(after, self.order).to(dtype), unordered(shift, self.order).to(dtype)

    @staticmethod
    def fits(mixer: Mixer) -> bool:
        """Tell whether every stage of the mixer is signs and one repeated matrix, too large to be dense."""
        return mixer.channels > DENSE_LIMIT and bool(mixer.stages) and all(s.signs is not None for s in mixer.stages)

    def __call__(self, features: Tensor) -> Tensor:
        """Return a new (C,) tensor; autograd passes through."""
        walsh = self._walsh
        for number, (scale, order) in enumerate(self._stages, start=1):
            features = torch.mm((features * scale).view(-1, walsh.shape[0]), walsh).view(-1)
            if order is not None and number < len(self._stages):
                features = features.index_select(0, order)
        return torch.addcmul(self._shift, features, self._after)


def _scaled(runs: tuple[Tensor, ...], scale: Tensor, *, columns: bool) -> tuple[Tensor, ...]:
    parts = zip(runs, _parts(scale, runs), strict=True)
    return tuple(run * part.view(len(run), *((1, -1) if columns else (-1, 1))) for run, part in parts)


class Wave(Keyed):
    """phi(x) = x + slope / omega * sin(omega * x + theta), per channel; float64 of shape (C,)."""

    def __init__(self, omega: Tensor, theta: Tensor, slope: Tensor) -> None:
        self.omega, self.theta, self.slope = omega, theta, slope

    def solve(self, values: Tensor) -> Tensor:
        """Return x with phi(x) = values, for float64 (C, N) and |slope| < 1."""
        omega, theta = self.omega[:, None], self.theta[:, None]
        return (solve_wave(omega * values + theta, self.slope[:, None]) - theta) / omega


def make_wave(channels: int, *, kappa: float, omega: tuple[float, float], stream: Keystream) -> Wave:
    """Draw omega, theta in [0, 2 pi), and slopes +-kappa * [0.5, 1), in this order and then the signs."""
    draws = torch.from_numpy(stream.uniforms(3 * channels)).view(3, channels)
    signs = torch.from_numpy(stream.signs(channels))
    return Wave(
        omega=omega[0] + (omega[1] - omega[0]) * draws[0],
        theta=2 * math.pi * draws[1],
        slope=signs * kappa * (0.5 + 0.5 * draws[2]),
    )


def solve_wave(target: Tensor, slope: Tensor) -> Tensor:
    """Solve w + slope * sin(w) = target elementwise; gradients by the implicit function theorem.

    Kepler's equation: Newton's method inside the bracket [target - |slope|, target + |slope|], bisection where a step
    leaves it, until the error is at most 1e-12 * max(1, |target|), at most 60 iterations.

    Parameters
    ----------
    target : Tensor, float64
    slope : Tensor, float64
        Inside (-1, 1); broadcasts against `target`; takes no gradient.
    """
    with torch.no_grad():
        flat, slopes = target.reshape(-1), slope.expand_as(target).reshape(-1)
        low, high = flat - slopes.abs(), flat + slopes.abs()
        w = flat - slopes * torch.sin(flat) / (1 + 2 * slopes * torch.cos(flat) + slopes.square()).sqrt()
        w, low, high = _newton(w, low, high, flat, slopes, passes=4)
        left = torch.nonzero(_newton_error(w, flat, slopes).abs() > TOLERANCE * flat.abs().clamp(min=1.0))[:, 0]
        parts = (w[left], low[left], high[left], flat[left], slopes[left])  # few
        w[left] = _newton(*parts, passes=ITERATIONS - 4)[0]
        w = w.view(target.shape)
    if not target.requires_grad:
        return w
    return w + (target - target.detach()) / (1 + slope * torch.cos(w))


def _newton_error(w: Tensor, target: Tensor, slope: Tensor) -> Tensor:
    return w + slope * torch.sin(w) - target


def _newton(
    w: Tensor, low: Tensor, high: Tensor, target: Tensor, slope: Tensor, *, passes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return closer values and their brackets, all of shape (N,)."""
    limit = TOLERANCE * target.abs().clamp(min=1.0)
    for _ in range(passes):
        error = _newton_error(w, target, slope)
        if bool((error.abs() <= limit).all()):
            break
        low, high = torch.where(error < 0, w, low), torch.where(error > 0, w, high)
        step = w - error / (1 + slope * torch.cos(w))
        w = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    return w, low, high


class Program(Keyed):
    """Mean, mixers and waves in few operations: (C, N) -> (C, N), positions left where they are.

    Between two mixers the values are w = omega x + theta, for which the wave is w + slope * sin(w); scales, omega and
    theta are inside the mixing matrices.

    Parameters
    ----------
    mixers : sequence of Mixer
    waves : sequence of Wave or None
        One after each mixer; None where there is none.
    mean, scale : Tensor of shape (C,), float64
    dtype : dtype
    vector : bool
        For N = 1 only; a faster form where the mixers have it.
    """

    def __init__(
        self,
        mixers: Sequence[Mixer],
        waves: Sequence[Wave | None],
        *,
        mean: Tensor,
        scale: Tensor,
        dtype: torch.dtype,
        vector: bool,
    ) -> None:
        self._vector = vector and all(map(HadamardVectorMix.fits, mixers))
        make = HadamardVectorMix if self._vector else AffineMix
        self._mean = None if bool((mean == 0).all()) else self._shaped(mean.to(dtype))
        self._steps: list[tuple[AffineMix | HadamardVectorMix, Tensor | None]] = []
        one, before, offset = torch.ones_like(mean), 1 / scale, torch.zeros_like(mean)
        for mixer, wave in zip(mixers, waves, strict=True):
            after, theta = (one, 0 * one) if wave is None else (wave.omega, wave.theta)
            shift = after * mixer.apply(offset[:, None])[:, 0] + theta
            mix = make(mixer, before=before, after=after, shift=shift, dtype=dtype)
            self._steps.append(
                (mix, None if wave is None else self._shaped(unordered(wave.slope, mix.order).to(dtype)))
            )
            before, offset = 1 / after, -theta / after

    def _shaped(self, values: Tensor) -> Tensor:
        return values if self._vector else values[:, None]

    def __call__(self, features: Tensor) -> Tensor:
        """Return a new tensor; in-place only on what was made here, so autograd may watch."""
        shape = features.shape
        features = features.view(-1) if self._vector else features
        features = features if self._mean is None else features - self._mean
        for mix, slope in self._steps:
            features = mix(features)
            if slope is not None:
                features = torch.sin(features).mul_(slope).add_(features)
            if mix.order is not None:
                features = features.index_select(0, mix.order)
        return features.view(shape)


def block_targets(spatial: tuple[int, ...], block: tuple[int, ...], stream: Keystream) -> NDArray[np.int64]:
    """Return where each position goes when blocks move, and positions inside each block, row-major, int64 (S,).

    Inside a block the order is that of the ranks of its key words. ConfigError if a size does not divide its axis.
    """
    if len(block) != len(spatial) or any(size % part for size, part in zip(spatial, block, strict=True)):
        raise ConfigError(f"block_shape must divide the features' spatial shape {spatial}, got {block}.")
    axes = [n for size, part in zip(spatial, block, strict=True) for n in (size // part, part)]
    outer, inner = range(0, len(axes), 2), range(1, len(axes), 2)
    size = math.prod(block)
    places = np.arange(math.prod(spatial)).reshape(axes).transpose(*outer, *inner).reshape(-1, size)
    moved = stream.permutation(len(places))
    inside = np.argsort(stream.words(places.size).reshape(places.shape), axis=1, kind="stable")
    target = np.empty(places.size, dtype=np.int64)
    target[places] = np.take_along_axis(places[moved], inside, axis=1)
    return target
