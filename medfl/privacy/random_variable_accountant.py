"""A second account of Poisson-sampled Gaussian steps: privacy loss random variables, composed by Opacus.

Gopi, Lee and Wutschitz 2021 (arXiv 2106.02848). Opacus itself only knows the relation add-or-remove; the random
variable of replace-one is written down here, from the two densities alone.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import ndtr

Array = NDArray[np.float64]
TAIL = 1e-3
"""Share of delta that may lie beyond the losses that are looked at."""
_ROUNDING, _SHARE = 0.01, 0.005  # of epsilon: absolute, and relative where that is more
_ROOM = 3.0
_BENDS = 400


@dataclass(frozen=True)
class ReplacedSubjectLoss:
    """The privacy loss of one step when the subject is replaced, as a random variable.

    A subject's clipped gradient and its replacement point, at worst, in opposite directions. Along that line the noised
    sum, in units of the clip, has density ``P = (1 - q) N(0, s^2) + q N(1, s^2)`` or ``Q``, its mirror image; the loss
    ``log P(x) / Q(x)`` of x ~ P grows with x.

    Attributes
    ----------
    noise_multiplier : float
        s > 0.
    rate : float
        q in (0, 1).
    low, high : float
        Where the variable is cut off.
    """

    noise_multiplier: float
    rate: float
    low: float
    high: float

    def cdf(self, loss: Array | float) -> Array:
        """Return the chance of a smaller loss, given that it lies between `low` and `high`."""
        inside = (self._below(np.asarray(loss)) - self._below(np.array(self.low))) / (1.0 - self.cut_mass())
        return np.clip(inside, 0.0, 1.0)

    def mean(self) -> float:
        """Return the mean loss: ``high - integral of the cdf``, by adaptive quadrature."""
        edge = min(self.high, -self.low, 1.0)
        points = [-edge, -edge / 30, 0.0, edge / 30, edge]
        area, _ = quad(self.cdf, self.low, self.high, points=points, limit=_BENDS)
        return float(self.high - area)

    def cut_mass(self) -> float:
        """Return the chance of a loss beyond `low` or `high`."""
        return float(1.0 - self._below(np.array(self.high)) + self._below(np.array(self.low)))

    def _below(self, loss: Array) -> Array:
        place = self._place(np.abs(loss)) * np.sign(loss)
        sigma, rate = self.noise_multiplier, self.rate
        below: Array = (1.0 - rate) * ndtr(place / sigma) + rate * ndtr((place - 1.0) / sigma)
        return below

    def _place(self, loss: Array) -> Array:
        """Solve ``c u^2 + (1 - q)(1 - e^loss) u - c e^loss = 0`` for u = exp(x / s^2), in logarithms; loss >= 0."""
        variance = self.noise_multiplier**2
        log_c = math.log(self.rate) - 0.5 / variance
        with np.errstate(divide="ignore"):
            log_b = math.log1p(-self.rate) + loss + np.log(-np.expm1(-loss))
        root = 0.5 * np.logaddexp(2.0 * log_b, math.log(4.0) + 2.0 * log_c + loss)
        place: Array = variance * (np.logaddexp(log_b, root) - math.log(2.0) - log_c)
        return place


def random_variable_epsilon(
    phases: Sequence[tuple[float, float, int]], delta: float, *, replace: bool, reach: float
) -> float:
    """Return the epsilon of all phases one after the other.

    Parameters
    ----------
    phases : sequence of (float, float, int)
        Noise multiplier, sampling rate and number of steps; a rate of 1 is legal beside others below 1.
    delta : float
        In (0, 1).
    replace : bool
        Whether a subject is replaced; else one is added or removed.
    reach : float
        A loss that all steps together exceed with a chance below ``TAIL * delta / 4``, by another accountant.

    Returns
    -------
    float
        Rounded upwards by 0.01, or by 0.5 % of `reach` where that is more.
    """
    rounding = max(_ROUNDING, _SHARE * reach)
    if not replace:
        return _opacus(phases, delta, rounding)
    from opacus.accountants.analysis.prv import Domain, compose_heterogeneous, discretize

    steps = [count for _, _, count in phases]
    mesh = rounding / math.sqrt(sum(steps) * math.log(12.0 / (TAIL * delta)) / 2.0)
    domain = Domain.create_aligned(-(reach + _ROOM), reach + _ROOM, mesh)
    losses = [ReplacedSubjectLoss(noise, rate, domain.t_min, domain.t_max) for noise, rate, _ in phases]
    composed = compose_heterogeneous([discretize(loss, domain) for loss in losses], steps)
    return float(composed.compute_epsilon(delta, TAIL * delta, rounding)[2])


def _opacus(phases: Sequence[tuple[float, float, int]], delta: float, rounding: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(phases)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order", category=UserWarning)  # only widens its domain
        return float(accountant.get_epsilon(delta, eps_error=rounding, delta_error=TAIL * delta))
