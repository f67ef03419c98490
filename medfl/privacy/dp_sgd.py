"""One step of DP-SGD whose unit is the subject: mean gradient per subject, clipped, summed, noised once."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy.canaries import GradientCanaries
from medfl.privacy.gaussian import NoiseSource
from medfl.privacy.subject_gradients import METHODS, WRITES_NOTHING_OUT, Loss, SubjectBatch, SubjectGradients, trainable

STUDIES_AT_ONCE = 64
"""Studies whose gradients are held at once, unless said otherwise; whole subjects are never torn apart."""
_SAFETY = 1.0 - 1e-5  # pays for rounding in clipping and in sums


@dataclass(frozen=True)
class PrivateStep:
    """What a step adds and divides by.

    Attributes
    ----------
    clip : float
        C, the largest L2 norm over all parameters of what one subject adds to the sum, > 0.
    noise_multiplier : float
        sigma > 0: the noise has standard deviation ``sigma * C`` per coordinate of the sum.
    expected_subjects : float
        ``PoissonSubjects.expected_subjects``, > 0. The sum is divided by it whoever was drawn.

    Raises
    ------
    ConfigError
        If a number is not finite and above 0.
    """

    clip: float
    noise_multiplier: float
    expected_subjects: float

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("clip", "noise_multiplier", "expected_subjects"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be finite and > 0, found {value}. Without it nothing is private.")


class NoiseReserve:
    """Draws noise ahead, many values at a time: small steps spend less on it. No value is ever given twice.

    Parameters
    ----------
    source : NoiseSource
        Must be used by nothing else.
    block : int
        Values drawn at once, at least 1.
    """

    def __init__(self, source: NoiseSource, block: int = 1 << 16) -> None:
        self._source, self._block = source, block
        self._left: NDArray[np.float64] = np.zeros(0)

    def normals(self, count: int, /) -> NDArray[np.float64]:
        """Return the next `count` standard normal values."""
        if count > len(self._left):
            self._left = np.concatenate([self._left, self._source.normals(max(self._block, count))])
        given, self._left = self._left[:count], self._left[count:]
        return given


def private_gradients(
    network: nn.Module,
    loss: Loss,
    batch: SubjectBatch,
    *,
    step: PrivateStep,
    source: NoiseSource,
    method: str,
    studies_at_once: int = STUDIES_AT_ONCE,
    canaries: GradientCanaries | None = None,
) -> None:
    """Leave ``(sum of clipped gradients + N(0, (sigma C)^2)) / (q N)`` in `.grad`, for an ordinary optimizer.

    Nothing is returned: a training loss or a share of clipped subjects would be a release without noise. Nobody being
    drawn is legal; then the gradient is noise alone, and the step counts like any other. Sum and noise are float64 and
    rounded to the parameters' type at the end (outer products are summed as float32 first). Subjects are clipped at
    ``(1 - 1e-5) C``, which pays for rounding; against an attacker who exploits how floating-point numbers are spaced
    (Mironov 2012) nothing is claimed.

    Parameters
    ----------
    network : Module
        In training mode, accepted by `dp_guard`.
    loss : callable
        (logits, target) -> scalar, the mean over studies.
    batch : SubjectBatch
        Drawn by `PoissonSubjects`.
    step : PrivateStep
    source : NoiseSource
        In production a `Keystream` of a key just drawn from the operating system, never from the run's seed: who can
        repeat the noise can take it off.
    method : str
        A name of `METHODS`; see `gradient_choice`.
    studies_at_once : int
        At least 1; "outer products" need no limit and have none.
    canaries : GradientCanaries or None
        Made-up subjects of an audit: they are clipped and noised with the others, and see the sum that is released.
        The divisor does not count them.

    Raises
    ------
    ConfigError
        If the method is unknown or a number is out of range.
    PrivacyError
        If there is nothing to train, or the network is not in training mode. Gradients are left as they were.
    """
    parameters = trainable(network)
    if not (parameters and network.training):
        raise PrivacyError("a private step needs a network in training mode with parameters that take a gradient.")
    total = clipped_sum(network, loss, batch, clip=step.clip, method=method, studies_at_once=studies_at_once)
    if canaries is not None:
        total.add_(canaries.contribution(partial(clip_and_sum, clip=step.clip)).to(total.device))
    noise = torch.from_numpy(source.normals(len(total))).to(total.device)
    noised = total.add_(noise, alpha=step.noise_multiplier * step.clip)
    if canaries is not None:
        canaries.observe(noised)
    mean = noised.div_(step.expected_subjects)
    start = 0
    for parameter in parameters:
        part = mean[start : start + parameter.numel()]
        parameter.grad = part.to(parameter.dtype).view_as(parameter)
        start += len(part)


def clipped_sum(
    network: nn.Module,
    loss: Loss,
    batch: SubjectBatch,
    *,
    clip: float,
    method: str,
    studies_at_once: int = STUDIES_AT_ONCE,
) -> Tensor:
    """Return the sum over subjects of ``g min(1, C / |g|)``, without noise: for tests and the canary audit only.

    A subject whose gradient is not finite adds nothing, so that no subject can stop or spoil a step.

    Returns
    -------
    Tensor of shape (P,), float64
        All trainable parameters, flattened, in order.

    Raises
    ------
    ConfigError
        If the method is unknown, or no study may be held.
    """
    if method not in METHODS or studies_at_once < 1:
        raise ConfigError(
            f"the method must be one of {', '.join(METHODS)} and hold at least one study; "
            f"found {method!r} and {studies_at_once}."
        )
    if method == WRITES_NOTHING_OUT:
        studies_at_once = max(studies_at_once, len(batch.owner))
    total = None
    for part in batch.parts(studies_at_once):
        for gradients in METHODS[method](network, loss, part):
            clipped = clip_and_sum(gradients, clip)
            total = clipped if total is None else total.add_(clipped)
    if total is not None:
        return total
    parameters = trainable(network)
    return torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64, device=parameters[0].device)


@torch.no_grad()
def clip_and_sum(gradients: SubjectGradients, clip: float) -> Tensor:
    """Return the sum of the clipped gradients of some subjects.

    Parameters
    ----------
    gradients : sequence of OuterProducts or Stacked
        One for each parameter.
    clip : float
        > 0.

    Returns
    -------
    Tensor of shape (P,), float64
    """
    squared = gradients[0].squared_norms()
    for one in gradients[1:]:
        squared = squared + one.squared_norms()
    if not math.isfinite(float(squared.sum())):
        finite = torch.isfinite(squared)
        gradients, squared = [one.of(finite) for one in gradients], squared[finite]
    scale = squared.rsqrt().mul_(clip * _SAFETY).clamp_max_(1.0)  # a gradient of 0 has infinity here, hence 1
    return torch.cat([one.weighted_sum(scale) for one in gradients])
