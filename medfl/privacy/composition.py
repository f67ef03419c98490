"""What many releases about the same subjects cost together.

Events are plain descriptions that can be written down and composed again by anybody; the calculation is dp-accounting's
privacy loss distribution (Koskela et al. 2020; Doroshenko et al. 2022, arXiv 2207.04380), an upper bound.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, reduce
from typing import Any

from dp_accounting import NeighboringRelation
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution, from_gaussian_mechanism

from medfl.errors import ConfigError

ADD_OR_REMOVE = "add or remove one subject"
REPLACE = "replace one subject"
MOST_REPEATS = 10**6
"""Of one event; a group of equal ones may reach ten times that before epsilon is called infinite."""
VACUOUS = 200.0
"""Mean privacy loss beyond which epsilon is called infinite: what is left protects nobody."""
_RELATIONS = {ADD_OR_REMOVE: NeighboringRelation.ADD_OR_REMOVE_ONE, REPLACE: NeighboringRelation.REPLACE_ONE}
_INTERVAL = 2.5e-4  # of the privacy loss
_ROUNDING = 1e-9  # of delta, relative


@dataclass(frozen=True)
class Gaussian:
    """Gaussian noise on one sum to which every subject contributes.

    Attributes
    ----------
    noise_multiplier : float
        Standard deviation of the noise over the most that one subject adds to the sum (its clip), > 0. Under
        replace-one a subject moves the sum by twice that; the accounting sees to it.

    Raises
    ------
    ConfigError
        If it is out of range.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        """Check the range."""
        _require("noise_multiplier", self.noise_multiplier, 0 < self.noise_multiplier < math.inf, "finite and > 0")


@dataclass(frozen=True)
class PoissonSampledGaussian:
    """Gaussian noise on a sum over subjects who are drawn by chance, each by itself; one step of DP-SGD.

    Attributes
    ----------
    sampling_probability : float
        Of every subject, in (0, 1].
    noise_multiplier : float
        As in `Gaussian`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    sampling_probability: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Check ranges."""
        _require("sampling_probability", self.sampling_probability, 0 < self.sampling_probability <= 1, "in (0, 1]")
        _require("noise_multiplier", self.noise_multiplier, 0 < self.noise_multiplier < math.inf, "finite and > 0")


@dataclass(frozen=True)
class EpsilonDelta:
    """A release of which no more is known than its guarantee, such as what a lost ledger may have held.

    Attributes
    ----------
    epsilon : float
        Finite, > 0, for the adjacency it is composed under.
    delta : float
        In [0, 1).

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        """Check ranges."""
        _require("epsilon", self.epsilon, 0 < self.epsilon < math.inf, "finite and > 0")
        _require("delta", self.delta, 0 <= self.delta < 1, "in [0, 1)")


@dataclass(frozen=True)
class NonPrivate:
    """A release about which nothing is proven: epsilon becomes infinite."""


@dataclass(frozen=True)
class SelfComposed:
    """The same event many times with fresh noise; later ones may depend on what earlier ones showed.

    Attributes
    ----------
    event : Gaussian or PoissonSampledGaussian
    count : int
        1 to `MOST_REPEATS`.

    Raises
    ------
    ConfigError
        If the count is out of range.
    """

    event: Gaussian | PoissonSampledGaussian
    count: int

    def __post_init__(self) -> None:
        """Check the range."""
        _require("count", self.count, 1 <= self.count <= MOST_REPEATS, f"from 1 to {MOST_REPEATS}")


DpEvent = Gaussian | PoissonSampledGaussian | EpsilonDelta | NonPrivate | SelfComposed
"""Everything that can be accounted for; the list is closed."""


def described(event: DpEvent) -> dict[str, Any]:
    """Return an event as JSON values, with its type by name."""
    if isinstance(event, SelfComposed):
        return {"type": "SelfComposed", "event": described(event.event), "count": event.count}
    return {"type": type(event).__name__, **asdict(event)}


def event_from(facts: Mapping[str, Any]) -> DpEvent:
    """Return the event that `described` made these JSON values of.

    Raises
    ------
    ConfigError
        If the type is unknown, a field is missing or unknown, or a number is out of range.
    """
    fields = {name: value for name, value in facts.items() if name != "type"}
    match facts.get("type"), fields:
        case "Gaussian", {"noise_multiplier": int() | float() as noise} if len(fields) == 1:
            return Gaussian(float(noise))
        case (
            "PoissonSampledGaussian",
            {"sampling_probability": int() | float() as rate, "noise_multiplier": int() | float() as noise},
        ) if len(fields) == 2:
            return PoissonSampledGaussian(float(rate), float(noise))
        case "EpsilonDelta", {"epsilon": int() | float() as epsilon, "delta": int() | float() as delta} if (
            len(fields) == 2
        ):
            return EpsilonDelta(float(epsilon), float(delta))
        case "NonPrivate", {} if not fields:
            return NonPrivate()
        case "SelfComposed", {"event": dict() as inner, "count": int() as count} if len(fields) == 2:
            repeated = event_from(inner)
            if isinstance(repeated, Gaussian | PoissonSampledGaussian):
                return SelfComposed(repeated, count)
    raise ConfigError(
        "an event must be Gaussian, PoissonSampledGaussian, SelfComposed of one of these, EpsilonDelta or NonPrivate, "
        f"with its own numbers only; found type {facts.get('type')!r} with fields {sorted(fields)}."
    )


def composed_epsilon(events: Mapping[DpEvent, int], delta: float, adjacency: str) -> float:
    """Return the epsilon of all events together at one delta, for whoever sees all of them.

    Gaussians are added up in closed form (``1 / sigma^2`` adds), then composed with each kind of sampled Gaussian by
    privacy loss distributions. Guarantees known only as (epsilon, delta) are added by basic composition (Dwork and Roth
    2014, theorem 3.16): their deltas are taken off first, and the rest is composed at what is left.

    Parameters
    ----------
    events : mapping of event to int
        How often each took place, >= 0. Make it of a list with `collections.Counter`.
    delta : float
        In (0, 1), for all together.
    adjacency : str
        `ADD_OR_REMOVE` or `REPLACE`.

    Returns
    -------
    float
        0 for no event; infinity if anything is not private, the mean privacy loss is above `VACUOUS`, or so many steps
        were taken that their loss can no longer be resolved.

    Raises
    ------
    ConfigError
        If delta is out of range or the adjacency unknown.
    """
    _require("delta", delta, 0 < delta < 1, "in (0, 1)")
    if adjacency not in _RELATIONS:
        raise ConfigError(f"adjacency must be '{ADD_OR_REMOVE}' or '{REPLACE}', found '{adjacency}'.")
    epsilon, left, precision = 0.0, delta, 0.0
    sampled: dict[tuple[float, float], int] = {}
    for event, times in events.items():
        if not times:
            continue
        once, count = (event.event, event.count * times) if isinstance(event, SelfComposed) else (event, times)
        match once:
            case NonPrivate():
                return math.inf
            case EpsilonDelta():
                epsilon += once.epsilon * count
                left -= once.delta * count
            case PoissonSampledGaussian() if once.sampling_probability < 1:
                group = (once.sampling_probability, once.noise_multiplier)
                sampled[group] = sampled.get(group, 0) + count
            case _:
                precision += count / once.noise_multiplier**2
    if left < -_ROUNDING * delta:
        return math.inf
    if not precision and not sampled:
        return epsilon
    if left <= _ROUNDING * delta:
        return math.inf
    groups = tuple((*group, count) for group, count in sorted(sampled.items()))
    return epsilon + _noise_epsilon(precision, groups, left, adjacency)


@lru_cache(maxsize=256)
def _noise_epsilon(
    precision: float, groups: tuple[tuple[float, float, int], ...], delta: float, adjacency: str
) -> float:
    """Return the epsilon of a sum of 1 / sigma^2 and of (probability, noise multiplier, count) of sampled ones."""
    scale = 4.0 if adjacency == REPLACE else 1.0
    losses = [precision / 2, *(count * _mean_loss(rate, noise) for rate, noise, count in groups)]
    largest = max([0.0, *(0.5 / noise**2 for _, noise, _ in groups)])
    most = max([0, *(count for _, _, count in groups)])
    if scale * max(math.fsum(losses), largest) > VACUOUS or most > 10 * MOST_REPEATS:
        return math.inf
    parts = [_loss(rate, noise, adjacency).self_compose(count) for rate, noise, count in groups]
    if precision:
        parts.append(_loss(1.0, precision**-0.5, adjacency))
    return float(reduce(PrivacyLossDistribution.compose, parts).get_epsilon_for_delta(delta))


def _mean_loss(rate: float, noise: float) -> float:
    """Bound the mean loss of one step: by convexity ``q / (2 s^2)``, by chi-square ``log(1 + q^2 (e^(1/s^2) - 1))``."""
    convex = rate / (2 * noise**2)
    return min(convex, math.log1p(rate**2 * math.expm1(noise**-2))) if noise > 0.1 else convex


@lru_cache(maxsize=16)
def _loss(rate: float, noise: float, adjacency: str) -> PrivacyLossDistribution:
    return from_gaussian_mechanism(
        noise, value_discretization_interval=_INTERVAL, sampling_prob=rate, neighboring_relation=_RELATIONS[adjacency]
    )


def _require(name: str, value: float, holds: bool, range_: str) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {range_}, found {value}.")
