"""The epsilon of DP-SGD: Gaussian noise on a sum over subjects who are drawn anew, each by chance, at every step.

The unit is the subject throughout, so nothing here depends on how many studies a subject has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy.accounting import HUB_SEES_ALL, ReleaseEvent, check_delta
from medfl.privacy.gaussian import gaussian_delta, smallest
from medfl.privacy.random_variable_accountant import TAIL, random_variable_epsilon

FPR = 0.01
"""False-positive rate at which the reader-facing true-positive rate is stated."""
_RESOLUTION = 2e-4  # of the privacy loss, as a share of epsilon
_DRIFT, _COARSE = 0.05, 0.15  # rounding of the loss times the root of the number of steps
_AGREEMENT, _SLACK = 0.02, 0.02  # relative, and in epsilon
_CALIBRATED = 1e-3
_NOISE_RANGE, _LEAST_NOISE, _MOST_NOISE = (0.5, 2.0), 0.05, 1e6
_NOTHING = 1e-9
_EPSILONS = 400


class Adjacency(StrEnum):
    """Which two data sets are neighbors."""

    ADD_OR_REMOVE = "add or remove one subject"
    REPLACE = "replace one subject"


@dataclass(frozen=True)
class SampledGaussian:
    """Steps of DP-SGD with one noise multiplier and one rate.

    Attributes
    ----------
    noise_multiplier : float
        Standard deviation of the noise per coordinate over the clip, > 0.
    rate : float
        Chance of each subject to take part in a step, in (0, 1]. 1 is full participation.
    steps : int
        At least 1; steps without any subject count as well.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    noise_multiplier: float
    rate: float
    steps: int

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.noise_multiplier < math.inf:
            raise ConfigError(f"noise_multiplier must be finite and > 0, found {self.noise_multiplier}.")
        if not 0 < self.rate <= 1:
            raise ConfigError(f"the sampling rate must be in (0, 1], found {self.rate}.")
        if self.steps < 1:
            raise ConfigError(f"an account needs at least one step, found {self.steps}.")

    def event(self) -> DpEvent:
        """Return what happened as dp-accounting describes it."""
        noise = GaussianDpEvent(self.noise_multiplier)
        return SelfComposedDpEvent(noise if self.rate == 1 else PoissonSampledDpEvent(self.rate, noise), self.steps)


@dataclass(frozen=True)
class MembershipCeiling:
    """What the best possible attacker can tell between two neighbors, in words of rates.

    Attributes
    ----------
    true_positive_rate : float
        At a false-positive rate of 1 %.
    advantage : float
        Largest true-positive rate minus false-positive rate.
    """

    true_positive_rate: float
    advantage: float


def epsilon_of(phases: Sequence[SampledGaussian], delta: float, adjacency: Adjacency) -> float:
    """Return the epsilon of all phases one after the other, by one accountant checked with another.

    dp-accounting's privacy loss distribution (an upper bound), checked with Opacus' privacy random variables (Gopi et
    al. 2021, arXiv 2106.02848); full participation is checked with its closed form. Every model in between may be seen.

    Parameters
    ----------
    phases : sequence of SampledGaussian
        At least one.
    delta : float
        In (0, 1).
    adjacency : Adjacency

    Raises
    ------
    ConfigError
        If there is no phase, or delta is out of range.
    PrivacyError
        If the accountants differ by more than 2 % and more than 0.02.
    """
    accountant, epsilon = _composed(phases, delta, adjacency)
    if all(phase.rate == 1 for phase in phases):
        mu = gaussian_mu([phase.noise_multiplier / math.sqrt(phase.steps) for phase in phases], adjacency)
        second = smallest(lambda value: gaussian_delta(value, 1.0, mu) <= delta, 1.0)
    else:
        steps = [(phase.noise_multiplier, phase.rate, phase.steps) for phase in phases]
        reach = float(accountant.get_epsilon(TAIL * delta / 4))
        second = random_variable_epsilon(steps, delta, replace=adjacency is Adjacency.REPLACE, reach=reach)
    if not abs(epsilon - second) <= max(_SLACK, _AGREEMENT * second):
        raise PrivacyError(
            f"two accountants must agree within 2 %, found epsilon {epsilon:g} and {second:g}. Nothing may be claimed; "
            "choose another noise multiplier or rate."
        )
    return epsilon


def noise_for(epsilon: float, delta: float, *, rate: float, steps: int, adjacency: Adjacency) -> float:
    """Return the smallest noise multiplier that keeps to a target, to 0.1 % and rounded upwards.

    Parameters
    ----------
    epsilon, delta : float
        For all steps together; epsilon > 0, delta in (0, 1). Less noise than 0.05 to 0.1 is never given back.
    rate, steps, adjacency
        As in `SampledGaussian` and `epsilon_of`.

    Raises
    ------
    ConfigError
        If a number is out of range, or no noise up to a million times the clip is enough.
    """
    if not 0 < epsilon < math.inf:
        raise ConfigError(f"the target epsilon must be finite and > 0, found {epsilon}.")

    def excess(log_noise: float) -> float:
        reached = _composed([SampledGaussian(math.exp(log_noise), rate, steps)], delta, adjacency)[1]
        return math.log(max(reached, _NOTHING) / epsilon)

    low, high = _NOISE_RANGE
    while excess(math.log(high)) > 0:
        low, high = high, 4 * high
        if high > _MOST_NOISE:
            raise ConfigError(f"epsilon {epsilon:g} cannot be kept over {steps} steps; allow more or take fewer.")
    while low > _LEAST_NOISE and excess(math.log(low)) <= 0:
        low, high = low / 2, low
    if low <= _LEAST_NOISE:
        return high
    found = float(brentq(excess, math.log(low), math.log(high), xtol=_CALIBRATED / 4))
    while excess(found) > 0:
        found += _CALIBRATED / 4
    return math.exp(found)


def membership_ceiling(phases: Sequence[SampledGaussian], delta: float, adjacency: Adjacency) -> MembershipCeiling:
    """Return rates that no attacker exceeds, from the whole curve of (epsilon, delta) rather than from one point.

    At FPR a every (epsilon, delta) gives TPR <= exp(epsilon) a + delta and TPR <= 1 - exp(-epsilon) (1 - a - delta)
    (Kairouz, Oh and Viswanath 2015); the smallest of these is stated. The advantage is delta at epsilon 0.

    Parameters
    ----------
    phases, delta, adjacency
        As in `epsilon_of`; delta only sets how far the curve is looked at.
    """
    accountant, epsilon = _composed(phases, delta, adjacency)
    epsilons = np.linspace(0.0, max(epsilon, 1.0), _EPSILONS)
    deltas = np.array([accountant.get_delta(float(value)) for value in epsilons])
    above = np.exp(epsilons) * FPR + deltas
    below = 1.0 - np.exp(-epsilons) * (1.0 - FPR - deltas)
    return MembershipCeiling(float(min(1.0, above.min(), below.min())), float(deltas[0]))


def gaussian_ceiling(mu: float) -> MembershipCeiling:
    """Return the rates of a mechanism that is exactly mu-GDP: Phi(Phi^-1(a) + mu) and 2 Phi(mu / 2) - 1.

    Dong, Roth and Su 2022, definition 2.6; full participation is of this kind.
    """
    return MembershipCeiling(float(ndtr(ndtri(FPR) + mu)), float(2.0 * ndtr(mu / 2.0) - 1.0))


def gaussian_mu(noise_multipliers: Sequence[float], adjacency: Adjacency) -> float:
    """Return mu of steps with full participation: the root of the sum of 1 / sigma^2, twice that for replace-one.

    With constant noise it grows as the root of the number of steps, ``sqrt(T) C / sigma``, whatever the loss is like:
    claims that it converges at constant noise are refuted by a linear loss. It stays bounded where the noise grows, see
    `growing_noise`.

    Parameters
    ----------
    noise_multipliers : sequence of float
        One for each step, > 0.
    adjacency : Adjacency
    """
    moved = 2.0 if adjacency is Adjacency.REPLACE else 1.0
    return moved * math.sqrt(math.fsum(noise**-2.0 for noise in noise_multipliers))


def growing_noise(first: float, step: int) -> float:
    """Return the noise multiplier of a step under a schedule whose total mu is bounded however long it goes on.

    ``first * (step + 1)``: the sum of the squared inverses stays below pi^2 / 6, so mu of all steps is at most 1.283
    times that of the first one (plain composition, so all models may be seen). A learning rate that falls likewise
    keeps the noise in the weights as it was.

    Parameters
    ----------
    first : float
        > 0.
    step : int
        From 0.
    """
    return first * (step + 1)


def image_level_epsilon(phase: SampledGaussian, delta: float, images: int) -> float:
    """Return what a subject would really get if images, not subjects, were drawn and clipped.

    Each of a subject's images is drawn by itself, so a step moves by 0 to k clips with binomial chances:
    dp-accounting's mixture of Gaussians, add or remove one subject. For comparison only; nothing is trained like this
    here.

    Parameters
    ----------
    phase : SampledGaussian
        Its rate is that of an image, below 1.
    delta : float
    images : int
        k >= 1, of one subject.

    Raises
    ------
    ConfigError
        If there is no image.
    """
    if images < 1:
        raise ConfigError(f"a subject has at least one image, found {images}.")
    moves = np.arange(images + 1)
    chances = binom.pmf(moves, images, phase.rate)
    event = MixtureOfGaussiansDpEvent(phase.noise_multiplier, [float(move) for move in moves], list(chances))
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, _COARSE / math.sqrt(phase.steps))
    return float(accountant.compose(SelfComposedDpEvent(event, phase.steps)).get_epsilon(delta))


def training_release(
    phases: Sequence[SampledGaussian],
    *,
    delta: float,
    subjects: int,
    adjacency: Adjacency,
    release_model: str = HUB_SEES_ALL,
    note: str = "",
) -> ReleaseEvent:
    """Return the event of one training: its epsilon computed anew from the steps that were really taken.

    Parameters
    ----------
    phases : sequence of SampledGaussian
    delta : float
        At most 1 / (10 * subjects).
    subjects : int
        Distinct subjects at the site that could be drawn.
    adjacency : Adjacency
    release_model, note : str
        The note is put before a sentence on sampling and on what an attacker can reach.

    Raises
    ------
    ConfigError
        If delta is too large for so many subjects, or a number is out of range.
    PrivacyError
        If two accountants disagree.
    """
    check_delta(delta, subjects)
    epsilon = epsilon_of(phases, delta, adjacency)
    ceiling = membership_ceiling(phases, delta, adjacency)
    steps = "; ".join(
        f"{phase.steps} steps, each subject drawn with probability {phase.rate:g}, noise multiplier "
        f"{phase.noise_multiplier:g}"
        for phase in phases
    )
    reach = (
        f"No attacker exceeds a true-positive rate {ceiling.true_positive_rate:.3f} at a false-positive rate of 1 %, "
        f"or an advantage of {ceiling.advantage:.3f}."
    )
    full = all(phase.rate == 1 for phase in phases)
    return ReleaseEvent(
        (GaussianDpEvent if full else PoissonSampledDpEvent).__name__,
        epsilon,
        delta,
        adjacency.value,
        f"dp-accounting PLD, checked against {'the analytic Gaussian mechanism' if full else 'Opacus PRV'}",
        release_model,
        f"{note + ' ' if note else ''}Poisson sampling of subjects: {steps}. {reach}",
    )


def _composed(phases: Sequence[SampledGaussian], delta: float, adjacency: Adjacency) -> tuple[PLDAccountant, float]:
    """Return the accountant of all phases and its epsilon; the loss is as finely resolved as the result needs."""
    if not phases:
        raise ConfigError("an account needs at least one phase, found none.")
    if not 0 < delta < 1:
        raise ConfigError(f"delta must be in (0, 1), found {delta}.")
    event = ComposedDpEvent([phase.event() for phase in phases])
    rough = float(RdpAccountant(range(2, 64)).compose(event).get_epsilon(delta))
    steps = sum(phase.steps for phase in phases)
    interval = min(_RESOLUTION * max(rough, 0.1), _DRIFT / math.sqrt(steps))
    relations = NeighboringRelation
    relation = relations.REPLACE_ONE if adjacency is Adjacency.REPLACE else relations.ADD_OR_REMOVE_ONE
    accountant = PLDAccountant(relation, interval)
    return accountant, float(accountant.compose(event).get_epsilon(delta))
