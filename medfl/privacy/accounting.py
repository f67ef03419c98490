"""What a release may claim: an epsilon with everything it means, or infinity."""

import math
from dataclasses import dataclass

from dp_accounting import GaussianDpEvent, NeighboringRelation, NonPrivateDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy.gaussian import gaussian_delta, smallest

HUB_SEES_ALL = "every message is seen by the hub"
NON_PRIVATE = NonPrivateDpEvent.__name__
_AGREEMENT = 1e-2
_RESOLUTION = 2e-4  # of the privacy loss, as a share of epsilon


@dataclass(frozen=True)
class ReleaseEvent:
    """One kind of release, as it is written to `privacy.json`. The unit is always the subject.

    Attributes
    ----------
    mechanism : str
        dp-accounting event name; "NonPrivateDpEvent" where nothing is proven.
    epsilon : float
        For everything that is released about one subject in this way. Infinity where nothing is proven; never 0.
    delta : float or None
        None where nothing is proven.
    adjacency, accountant, release_model : str
        Which two data sets are neighbors, how epsilon was computed, and who sees what.
    note : str

    Raises
    ------
    PrivacyError
        If epsilon is not above 0, or finite without a mechanism and a delta.
    """

    mechanism: str
    epsilon: float
    delta: float | None
    adjacency: str
    accountant: str
    release_model: str
    note: str

    def __post_init__(self) -> None:
        """Check that a finite epsilon says what it is about, and that nothing claims 0."""
        if not self.epsilon > 0:
            raise PrivacyError(f"epsilon must be above 0, and infinite where nothing is proven; found {self.epsilon}.")
        if math.isfinite(self.epsilon) and (self.delta is None or self.mechanism == NON_PRIVATE):
            raise PrivacyError("a finite epsilon needs a mechanism with a proof and a delta.")


def non_private(note: str, *, release_model: str = HUB_SEES_ALL) -> ReleaseEvent:
    """Return the event of a release about which nothing is proven: epsilon is infinite.

    Parameters
    ----------
    note : str
        What is released and why nothing is claimed.
    release_model : str
    """
    return ReleaseEvent(NON_PRIVATE, math.inf, None, "not applicable", "none", release_model, note)


def gaussian_release(
    *,
    sigma: float,
    sensitivity: float,
    delta: float,
    subjects: int,
    releases_per_subject: int = 1,
    release_model: str = HUB_SEES_ALL,
    note: str = "",
) -> ReleaseEvent:
    """Return the event of Gaussian noise, its epsilon computed anew from what was really added.

    dp-accounting's privacy loss distribution for the replace-one relation, checked against the closed form of Balle and
    Wang (2018). dp-accounting counts noise in units of one contribution, which replacing moves twice: its noise
    multiplier is ``2 * sigma / sensitivity``.

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise per coordinate, > 0.
    sensitivity : float
        L2 distance between neighbors in one release when one subject is replaced, > 0.
    delta : float
        At most 1 / (10 * subjects).
    subjects : int
        Distinct subjects at the site.
    releases_per_subject : int
        Most releases about one subject, composed exactly.
    release_model, note : str

    Returns
    -------
    ReleaseEvent

    Raises
    ------
    ConfigError
        If delta is too large for so many subjects, or a number is out of range.
    PrivacyError
        If both ways differ by more than 1 %.
    """
    check_delta(delta, subjects)
    if not (0 < sigma < math.inf and 0 < sensitivity < math.inf) or releases_per_subject < 1:
        raise ConfigError("sigma and sensitivity must be finite and > 0, and at least one release counted.")
    ratio = sensitivity * math.sqrt(releases_per_subject) / sigma
    expected = smallest(lambda epsilon: gaussian_delta(epsilon, 1.0, ratio) <= delta, 1.0)
    event = SelfComposedDpEvent(GaussianDpEvent(2.0 * sigma / sensitivity), releases_per_subject)
    accountant = PLDAccountant(NeighboringRelation.REPLACE_ONE, _RESOLUTION * max(expected, 0.1))
    epsilon = float(accountant.compose(event).get_epsilon(delta))
    if not abs(epsilon - expected) <= _AGREEMENT * expected:
        raise PrivacyError(f"two accountants must agree within 1 %, found epsilon {epsilon:g} and {expected:g}.")
    return ReleaseEvent(
        GaussianDpEvent.__name__,
        epsilon,
        delta,
        "replace one subject",
        "dp-accounting PLD, checked against the analytic Gaussian mechanism",
        release_model,
        note,
    )


def check_delta(delta: float, subjects: int) -> None:
    """Check that delta is at most a tenth of the chance of publishing one subject drawn at random.

    Parameters
    ----------
    delta : float
    subjects : int
        Distinct subjects, never studies.

    Raises
    ------
    ConfigError
        If delta is not in (0, 1 / (10 * subjects)].
    """
    if subjects < 1:
        raise ConfigError(f"a guarantee needs at least one subject, found {subjects}.")
    if not 0 < delta * 10 * subjects <= 1 + 1e-9:
        raise ConfigError(
            f"delta must be above 0 and at most 1 / (10 * subjects) = {0.1 / subjects:.2g}, found {delta:g}; lower it."
        )
