"""Canaries in the gradients: made-up subjects who show how much a run of DP-SGD really gives away.

Each is in the run or not, by a secret fair coin. Those who are in are drawn for a step as the run draws its subjects,
their gradients are clipped by the run's own code, and the noised sum that everybody sees tells how likely each of them
took part. `medfl.attacks.one_run_audit` makes a lower bound on epsilon of it.

A canary's direction is a row of a discrete cosine transform, times signs that are tossed anew at every step. So the
directions of a step are exactly orthogonal, up to one canary per parameter, none is kept in memory, and a step costs
O(P log P) and P more per canary drawn. New directions at every step keep the model from moving along any of them and
make what the real subjects add average out, however steadily their gradients point one way. An attacker may choose
another gradient at every step: what the account says is true against this one too.

Sampling takes power from an attacker who only adds up. A canary is drawn with chance q and nobody sees when, so over T
steps the sum of the products with its direction moves by q T in noise of sigma sqrt(T): mu = q sqrt(T) / sigma. Scores
are therefore sums of log-likelihood ratios, which weigh a step more the likelier the canary was in it, and for many
steps reach mu = q sqrt(T (exp(1 / sigma^2) - 1)) (Bu et al. 2020), what sampling leaves of sqrt(T) / sigma. Large
gradients of real subjects take a little more away: they act like more noise, of variance |sum|^2 / P.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct, idct
from torch import Tensor

from medfl.errors import ConfigError, PrivacyError, ShapeError
from medfl.privacy.keystream import Keystream
from medfl.privacy.subject_gradients import Stacked, SubjectGradients
from medfl.privacy.subject_sampling import PoissonSubjects

LENGTH = 10.0
"""Norm of a canary's gradient before clipping, in units of the clip."""
_VALUES_AT_ONCE = 1 << 22
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class CanaryOutcome:
    """What a run tells about its canaries.

    Attributes
    ----------
    included : ndarray of shape (m,), bool
        Who was in the run. Secret until it is over.
    scores : ndarray of shape (m,), float64
        Log-likelihood ratio of having been in the run; above 0 speaks for it.
    steps : int
        Steps that were observed.
    """

    included: NDArray[np.bool_]
    scores: NDArray[np.float64]
    steps: int


class GradientCanaries:
    """The canaries of one run, or of one round of it.

    They cost the model as much as noise of variance ``sigma^2 + m q / (2 P)`` instead of ``sigma^2``, in units of the
    clip, and the subjects nothing: scores are computed from the noised sums alone.

    Parameters
    ----------
    count : int
        m, at least 1 and at most one per value of the gradient. A step with P = 100,000 and thousands of canaries
        drawn takes seconds; 1,000 canaries serve nearly every audit.
    sizes : sequence of int
        Values of each trainable parameter, in order; P together.
    clip : float
        C that the account presumes, finite and > 0.
    rate : float
        Chance of each subject to take part in a step, as the run has it, in (0, 1].
    coins : Keystream
        Of a secret key that tosses the coins and nothing else. With the same key in every round of a run the same
        canaries are in it, and `of_all_rounds` puts the rounds together.
    source : Keystream
        Of another key, new in every round: who is drawn, and the signs of the directions.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    def __init__(
        self, count: int, sizes: Sequence[int], *, clip: float, rate: float, coins: Keystream, source: Keystream
    ) -> None:
        self._sizes = [int(size) for size in sizes]
        self._values = sum(self._sizes)
        if not self._sizes or min(self._sizes) < 1 or not 1 <= count <= self._values:
            raise ConfigError(
                "canaries need a direction each: at least one canary, and at most one per value of the gradient; "
                f"found {count} canaries and {self._values} values."
            )
        if not 0 < clip < math.inf:
            raise ConfigError(f"the clip must be finite and > 0, found {clip}.")
        self._sampler = PoissonSubjects([[canary] for canary in range(count)], rate, source=source, cap=1)
        self._clip, self._rate, self._source = clip, rate, source
        self._included = coins.uniforms(count) < 0.5
        self._scores = np.zeros(count)
        self._signs: NDArray[np.float64] | None = None
        self._steps = 0

    def contribution(self, clipped_sum: Callable[[SubjectGradients], Tensor]) -> Tensor:
        """Return what the canaries who are in the run and drawn for this step add to the sum, perhaps nothing.

        Parameters
        ----------
        clipped_sum : callable
            The run's own clipping and summing, of gradients 10 times as long as the clip: where it does not shorten
            them, or only each parameter by itself, the audit sees it.

        Returns
        -------
        Tensor of shape (P,), float64

        Raises
        ------
        PrivacyError
            If the step before was not observed.
        """
        if self._signs is not None:
            raise PrivacyError("the canaries of a step must be observed before those of the next one are drawn.")
        drawn = self._sampler.draw().studies
        present = drawn[self._included[drawn]]
        self._signs = self._source.signs(self._values)
        total = torch.zeros(self._values, dtype=torch.float64)
        for gradients in self._gradients(present, self._signs):
            total += clipped_sum(gradients).cpu()
        return total

    def observe(self, noised_sum: Tensor) -> None:
        """Add to every canary's score what the noised sum of this step says about it.

        With x the product of sum and direction over the clip, v = |sum|^2 / (P C^2) its variance where the canary was
        not drawn (signs are random, so this holds whatever the real subjects add) and q the rate, the score grows by
        ``ln(1 - q + q exp((x - 1/2) / v))``.

        Parameters
        ----------
        noised_sum : Tensor of shape (P,)
            Before it is divided by anything.

        Raises
        ------
        PrivacyError
            If no canaries were drawn for this step.
        ShapeError
            If the shape is another one, or a value is not finite. The step then stays open.
        """
        if self._signs is None:
            raise PrivacyError("a step is observed once, after its canaries were drawn.")
        noised = noised_sum.detach().cpu().double().numpy()
        if noised.shape != (self._values,) or not np.isfinite(noised).all():
            raise ShapeError(f"a noised sum must hold {self._values} finite values, found shape {noised.shape}.")
        noised = noised / self._clip
        products = dct(self._signs * noised, norm="ortho")[: len(self._scores)]
        variance = max(float(noised @ noised) / self._values, _TINY)
        absent = math.log1p(-self._rate) if self._rate < 1 else -math.inf
        self._scores += np.logaddexp(absent, math.log(self._rate) + (products - 0.5) / variance)
        self._signs = None
        self._steps += 1

    def outcome(self) -> CanaryOutcome:
        """Return who was in the run, and all scores so far."""
        return CanaryOutcome(self._included.copy(), self._scores.copy(), self._steps)

    def _gradients(self, canaries: NDArray[np.int64], signs: NDArray[np.float64]) -> Iterator[SubjectGradients]:
        """Yield gradients of some canaries, as many at once as memory allows, one entry per parameter."""
        at_once = max(1, _VALUES_AT_ONCE // self._values)
        for start in range(0, len(canaries), at_once):
            part = canaries[start : start + at_once]
            rows = np.zeros((len(part), self._values))
            rows[np.arange(len(part)), part] = LENGTH * self._clip
            whole = torch.from_numpy(idct(rows, axis=1, norm="ortho") * signs)
            yield [Stacked(one) for one in torch.split(whole, self._sizes, dim=1)]


def of_all_rounds(outcomes: Sequence[CanaryOutcome]) -> CanaryOutcome:
    """Put rounds together that had the same canaries in them: log-likelihood ratios add.

    Parameters
    ----------
    outcomes : sequence of CanaryOutcome
        At least one, all with the same coins.

    Raises
    ------
    ShapeError
        If there is none, or another canary was in.
    """
    if not outcomes or any(not np.array_equal(one.included, outcomes[0].included) for one in outcomes):
        raise ShapeError("rounds go together if there is one, and the same canaries were in all of them.")
    scores = np.sum([one.scores for one in outcomes], axis=0)
    return CanaryOutcome(outcomes[0].included, scores, sum(one.steps for one in outcomes))
