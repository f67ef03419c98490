"""How large epsilon is at least, from one run: the coins of its canaries are the only chance that is relied on.

Whoever runs the audit guesses from the scores which canaries took part, and abstains where they say little. Scores may
depend on each other in any way. How many canaries are guessed at is fixed beforehand, as shares of all canaries among
which the confidence is divided (Bonferroni): all of them, for a run that is badly broken, and the most certain quarter,
for a faint signal.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from medfl.attacks.privacy_audit import CONFIDENCE, GAUSSIAN, EpsilonBound, checked_canaries, gaussian_epsilon
from medfl.errors import ConfigError, ShapeError

SHARES = (1.0, 0.25)
"""Shares of the canaries that are guessed at."""
_FAIR = "fair, independent coins are all that is assumed"
_EXACT = 1e-6


@dataclass(frozen=True)
class ClaimTest:
    """Whether the whole privacy curve that is claimed can be true.

    Attributes
    ----------
    flagged : bool
        With this confidence it is not. False is "not contradicted", never "confirmed".
    within_reach : bool
        So many canaries, all guessed rightly, would contradict the claim.
    confidence : float
    canaries : int
    guesses, correct : int
        Where it is contradicted, or at the first share.
    words : str
        One sentence for a report.
    """

    flagged: bool
    within_reach: bool
    confidence: float
    canaries: int
    guesses: int
    correct: int
    words: str


def one_run_bound(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
    cut: float | None = None,
    shares: Sequence[float] = SHARES,
) -> EpsilonBound:
    """Bound epsilon with no assumption but fair coins (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846).

    Parameters
    ----------
    scores : array_like of shape (m,)
        Finite, higher means "took part".
    included : array_like of shape (m,), bool
        By independent fair coins; never a fixed number of them.
    delta : float
        In [0, 1).
    confidence : float
        In (0, 1).
    cut : float or None
        Whoever scores above is guessed to have taken part, the farther the surer. 0 for log-likelihood ratios; None
        takes the median. It must not depend on `included`.
    shares : sequence of float
        In (0, 1], of the canaries that are guessed at.

    Raises
    ------
    ConfigError
        If a number is out of range.
    ShapeError
        If shapes do not fit or scores are not finite.
    """
    return _bound("one run", one_run_epsilon, _FAIR, scores, included, delta, confidence, cut, shares)


def one_run_gaussian_bound(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
    cut: float | None = None,
    shares: Sequence[float] = SHARES,
) -> EpsilonBound:
    """Bound epsilon by the largest mu whose Gaussian trade-off is contradicted (Mahloujifar et al. 2025, 2410.22235).

    Parameters, result and errors are those of `one_run_bound`; the assumption is stated in the result.
    """
    method, words = "one run, f-DP", f"{GAUSSIAN}, fair and independent coins"
    return _bound(method, one_run_gaussian_epsilon, words, scores, included, delta, confidence, cut, shares)


def one_run_claim_test(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    epsilons: ArrayLike,
    deltas: ArrayLike,
    confidence: float = CONFIDENCE,
    cut: float | None = None,
    shares: Sequence[float] = SHARES,
) -> ClaimTest:
    """Test a claimed privacy curve as a whole: sharper than any bound on epsilon at one delta, and assumes no shape.

    The pairs together say that no test of one canary has more power than ``1 - f``, with ``f`` the highest of
    ``1 - delta - exp(epsilon) a`` and ``exp(-epsilon) (1 - delta - a)`` (Wasserman and Zhou 2010; Kairouz, Oh and
    Viswanath 2015). That f goes into the test of Mahloujifar et al. 2025.

    Parameters
    ----------
    epsilons, deltas : array_like of shape (n,)
        Pairs that the account says hold for adding or removing one subject; epsilon >= 0, delta in [0, 1]. See
        `medfl.privacy.privacy_curve`.
    scores, included, confidence, cut, shares
        As in `one_run_bound`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    ShapeError
        If shapes do not fit or scores are not finite.
    """
    values, truth = checked_canaries(scores, included, 0.0, confidence)
    curve, slack = np.asarray(epsilons, dtype=np.float64), np.asarray(deltas, dtype=np.float64)
    fitting = curve.ndim == 1 and len(curve) > 0 and curve.shape == slack.shape
    if not (fitting and (curve >= 0).all() and np.isfinite(curve).all() and ((slack >= 0) & (slack <= 1)).all()):
        raise ShapeError("a curve needs as many epsilons, finite and >= 0, as deltas, in [0, 1]; at least one pair.")
    grown, shrunk = np.exp(np.minimum(curve, 700.0)), np.exp(-curve)

    def least(share: float) -> float:
        lines = np.maximum((share - slack) * shrunk, 1.0 - slack - (1.0 - share) * grown)
        return float(max(lines.max(), 0.0))

    tried = _guessed(values, truth, cut, shares)
    m, alpha = len(values), (1.0 - confidence) / len(tried)
    contradicted = [pair for pair in tried if _contradicted(least, m, *pair, alpha)]
    within_reach = any(_contradicted(least, m, guesses, guesses, alpha) for guesses, _ in tried)
    guesses, correct = contradicted[0] if contradicted else tried[0]
    said = "flagged: the claimed curve is contradicted" if contradicted else "the claimed curve is not contradicted"
    if not within_reach:
        said += f", which {m} canaries could not do"
    words = f"{said}; {correct} of {guesses} guesses were right ({confidence:.1%} confidence, {_FAIR})."
    return ClaimTest(bool(contradicted), within_reach, confidence, m, guesses, correct, words)


def one_run_epsilon(canaries: int, guesses: int, correct: int, *, delta: float, alpha: float) -> float:
    """Return the largest epsilon that so many right guesses contradict, theorem 5.2 of Steinke et al. 2023.

    With ``q = exp(e) / (1 + exp(e))``, W ~ Bin(guesses, q) and ``b = P(W >= correct)``, what (e, delta) allows has at
    most the chance ``b + 2 canaries delta max over i of (P(W >= correct - i) - b) / i``, i from 1 to `correct`.

    Parameters
    ----------
    canaries, guesses, correct : int
        0 <= correct <= guesses <= canaries, guesses >= 1.
    delta : float
        In [0, 1).
    alpha : float
        Chance that the true epsilon is below, in (0, 1).

    Returns
    -------
    float
        >= 0.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    _check(canaries, guesses, correct, delta, alpha)
    steps = np.arange(1, correct + 1)

    def rejected(epsilon: float) -> bool:
        q = 1.0 / (1.0 + math.exp(-epsilon))
        chance = float(binom.sf(correct - 1, guesses, q))
        fewer = binom.sf(correct - 1 - steps, guesses, q)
        return chance + 2.0 * canaries * delta * float(((fewer - chance) / steps).max(initial=0.0)) <= alpha

    return _largest(rejected)


def one_run_gaussian_epsilon(canaries: int, guesses: int, correct: int, *, delta: float, alpha: float) -> float:
    """Return epsilon at delta of the largest mu whose Gaussian trade-off so many right guesses contradict.

    Parameters, result and errors are those of `one_run_epsilon`.
    """
    _check(canaries, guesses, correct, delta, alpha)

    def rejected(mu: float) -> bool:
        return _contradicted(lambda share: float(ndtr(ndtri(share) - mu)), canaries, guesses, correct, alpha)

    return gaussian_epsilon(_largest(rejected), delta)


def _contradicted(least: Callable[[float], float], canaries: int, guesses: int, correct: int, alpha: float) -> bool:
    """Say whether a trade-off cannot be true, algorithm of Mahloujifar et al. 2025 for two hypotheses per canary.

    `least` is the inverse of 1 - f: at least this share of wrong guesses goes along with a share of right ones.
    """
    right, wrong, top = alpha * correct / canaries, alpha * (guesses - correct) / canaries, guesses / canaries
    for i in range(correct - 1, -1, -1):
        more = max(wrong, least(right))
        right += i / (guesses - i) * (more - wrong)
        wrong = more
        if right + wrong > top:
            return True
    return False


def _bound(
    method: str,
    epsilon_of: Callable[..., float],
    assumption: str,
    scores: ArrayLike,
    included: ArrayLike,
    delta: float,
    confidence: float,
    cut: float | None,
    shares: Sequence[float],
) -> EpsilonBound:
    values, truth = checked_canaries(scores, included, delta, confidence)
    tried = _guessed(values, truth, cut, shares)
    m, alpha = len(values), (1.0 - confidence) / len(tried)
    found = [(epsilon_of(m, *pair, delta=delta, alpha=alpha), *pair) for pair in tried]
    ceiling = max(epsilon_of(m, guesses, guesses, delta=delta, alpha=alpha) for guesses, _ in tried)
    epsilon, guesses, correct = max(found)
    return EpsilonBound(method, epsilon, ceiling, confidence, delta, m, guesses, correct, assumption)


def _guessed(
    scores: NDArray[np.float64], included: NDArray[np.bool_], cut: float | None, shares: Sequence[float]
) -> list[tuple[int, int]]:
    """Return for every share how many canaries are guessed at, the most certain first, and how many of them rightly."""
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"shares must be at least one number in (0, 1], found {list(shares)}.")
    middle = float(np.median(scores)) if cut is None else cut
    if not math.isfinite(middle):
        raise ConfigError(f"the cut must be finite, found {middle}.")
    order = np.argsort(-np.abs(scores - middle), kind="stable")
    right = np.cumsum(((scores > middle) == included)[order])
    counts = [max(1, round(share * len(scores))) for share in shares]
    return [(count, int(right[count - 1])) for count in counts]


def _largest(rejected: Callable[[float], bool]) -> float:
    """Return the largest value that is rejected, where all below are; 0 where none is."""
    if not rejected(_EXACT):
        return 0.0
    low, high = _EXACT, 1.0
    while rejected(high):
        low, high = high, 2.0 * high
    while high - low > _EXACT:
        middle = (low + high) / 2.0
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _check(canaries: int, guesses: int, correct: int, delta: float, alpha: float) -> None:
    if not (0 <= correct <= guesses <= canaries and guesses >= 1):
        raise ConfigError(f"need 0 <= correct <= guesses <= canaries, found {correct}, {guesses} and {canaries}.")
    if not (0 <= delta < 1 and 0 < alpha < 1):
        raise ConfigError(f"delta must be in [0, 1) and alpha in (0, 1), found {delta} and {alpha}.")
