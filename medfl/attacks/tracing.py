"""Telling from sums over subjects whether somebody is among them.

The attacker can compute what a candidate would add to the sums, for example because it holds the candidate's images
and the model that the sums measure, and the same of some other people. "tracing" is the likelihood ratio of sums with
and without the candidate, for normal contributions (Homer et al. 2008; Sankararaman et al. 2009). With D independent
sums over n subjects it separates the two by about sqrt(D / n) standard deviations, so sums over few subjects tell.
"nearness" does without the other people's mean, which a site with patients of its own kind makes misleading.

A tested subject becomes a stranger by standing aside: another subject takes its place a second time in the sums, and
its score is compared with those of the members of the same sums. So nothing but the membership differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.attributes import percentiles, resampled_subjects
from medfl.errors import ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control, Measure

Floats = NDArray[np.float64]
Attack = Callable[[Floats, float, Floats, "Population"], Floats]
MIN_OTHERS = 8
"""Fewest other people whose contributions the attacker must know."""
MIN_TESTED = 4
_BLOCKS = 20
_CONSTANT = 1e-9
_FOUND = 0.75
_HIGHEST_Z = 2.576
_NORMAL = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Population:
    """How contributions to the sums vary over people.

    Attributes
    ----------
    mean : ndarray of shape (D,)
    whitening : ndarray of shape (D, r)
        ``(x - mean) @ whitening`` has about unit covariance; sums that do not vary are left out.
    people : int
    """

    mean: Floats
    whitening: Floats
    people: int

    @classmethod
    def of(cls, contributions: Floats) -> "Population":
        """Learn it from people; correlations shrink towards zero by D / (D + people).

        Parameters
        ----------
        contributions : ndarray of shape (people, D)
            One row per subject.

        Raises
        ------
        TooFewSubjectsError
            If there are fewer than 8.
        ShapeError
            If contributions are not finite or none varies.
        """
        if contributions.ndim != 2 or not np.isfinite(contributions).all():
            raise ShapeError(f"contributions must be finite and (people, D), found shape {contributions.shape}.")
        people = len(contributions)
        if people < MIN_OTHERS:
            raise TooFewSubjectsError(f"Tracing takes contributions of at least {MIN_OTHERS} other people.")
        mean, spread = contributions.mean(axis=0), contributions.std(axis=0)
        varies = spread > _CONSTANT * np.maximum(np.abs(mean), 1.0)
        if not varies.any():
            raise ShapeError("contributions must differ between people; all are equal.")
        scaled = (contributions[:, varies] - mean[varies]) / spread[varies]
        shrinkage = len(scaled.T) / (len(scaled.T) + people)
        correlation = scaled.T @ scaled / people * (1 - shrinkage) + shrinkage * np.eye(len(scaled.T))
        values, vectors = np.linalg.eigh(correlation)
        whitening = np.zeros((len(mean), len(values)))
        whitening[varies] = vectors / np.sqrt(values) / spread[varies][:, None]
        return cls(mean, whitening, people)


def log_ratios(totals: Floats, subjects: float, candidates: Floats, population: Population) -> Floats:
    """Return log p(mean | candidate in) - log p(mean | candidate not in), for normal contributions.

    With z the whitened candidate and n subjects, the whitened mean of n is N(0, I / n) without the candidate
    and N(z / n, I (n - 1) / n**2) with it; constants are left out.

    Parameters
    ----------
    totals : ndarray of shape (D,)
        Sums over the subjects.
    subjects : float
        n, at least 2.
    candidates : ndarray of shape (m, D)
        What each candidate would add.
    population : Population

    Returns
    -------
    ndarray of shape (m,)

    Raises
    ------
    ShapeError
        If shapes do not fit or there are fewer than 2 subjects.
    """
    own, mean = _whitened(totals, subjects, candidates, population)
    without = subjects * float(mean @ mean)
    return np.asarray(0.5 * (without - ((mean - own / subjects) ** 2).sum(axis=1) * subjects**2 / (subjects - 1)))


def nearness(totals: Floats, subjects: float, candidates: Floats, population: Population) -> Floats:
    """Return minus the squared whitened distance of each candidate from the mean over the subjects, (m,).

    Parameters and errors are those of `log_ratios`; of the population only the spread is used.
    """
    own, mean = _whitened(totals, subjects, candidates, population)
    return -np.asarray(((own - mean) ** 2).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Members' scores against strangers', each pair under the same sums.

    Attributes
    ----------
    won : ndarray of shape (m, n)
        1 where member i scored higher than stranger j, 0.5 for a tie, 0 else; NaN where the two are not compared.
    strangers : ndarray of shape (m,), int
        Which of the n subjects each stranger is.
    """

    won: Floats
    strangers: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Floats, strangers: NDArray[np.int64], left_out: NDArray[np.bool_]) -> "Comparisons":
        """Compare each stranger with everybody who is not left out.

        Parameters
        ----------
        scores : ndarray of shape (m, n)
            Of all n subjects, under the sums that stranger j is not in.
        strangers : ndarray of shape (m,), int
        left_out : ndarray of shape (m, n), bool
            Who is no plain member of these sums, for example who is in them twice; a stranger is left out anyway.

        Raises
        ------
        ShapeError
            If shapes do not fit or scores are not finite.
        """
        if scores.ndim != 2 or left_out.shape != scores.shape or strangers.shape != scores.shape[:1]:
            raise ShapeError(f"scores (m, n) need m strangers and who is left out: {scores.shape}, {left_out.shape}.")
        if not np.isfinite(scores).all():
            raise ShapeError("scores must be finite; found NaN or infinity.")
        own = scores[np.arange(len(scores)), strangers][:, None]
        won = np.where(left_out, np.nan, (scores > own) + 0.5 * (scores == own))
        won[np.arange(len(scores)), strangers] = np.nan
        return cls(won, strangers)

    @classmethod
    def joined(cls, parts: Sequence["Comparisons"]) -> "Comparisons":
        """Put comparisons of different sums over different subjects together; at least one."""
        won = np.full(tuple(np.sum([part.won.shape for part in parts], axis=0)), np.nan)
        strangers, row, column = [], 0, 0
        for part in parts:
            rows, columns = part.won.shape
            won[row : row + rows, column : column + columns] = part.won
            strangers.append(part.strangers + column)
            row, column = row + rows, column + columns
        return cls(won, np.concatenate(strangers))

    def area(self, seed: int, draws: int) -> tuple[float, float, float]:
        """Return the area under the curve with its interval, subjects resampled.

        Raises
        ------
        TooFewSubjectsError
            If there are fewer than 4 strangers.
        """
        if len(self.strangers) < MIN_TESTED:
            raise TooFewSubjectsError(f"Tracing is judged on at least {MIN_TESTED} subjects, found fewer.")
        compared = (~np.isnan(self.won)).astype(np.float64)
        won = np.nan_to_num(self.won)
        counts = resampled_subjects(won.shape[1], draws, np.random.default_rng(seed))
        rows = counts[:, self.strangers]
        wins, pairs = (((rows @ table) * counts).sum(axis=1) for table in (won, compared))
        drawn = np.divide(wins, pairs, out=np.full(draws, np.nan), where=pairs > 0)
        return float(won.sum() / compared.sum()), *percentiles(drawn)


def jackknife_error(
    attack: Attack, totals: Floats, contributions: Floats, population: Population, rng: np.random.Generator
) -> float:
    """Return the standard error of an area under other subjects, who make other sums; on average never too small.

    A bootstrap of fixed scores would miss that the sums themselves depend on the subjects. So blocks of subjects are
    left out of the sums, and of each such set another block stands aside (delete-a-group jackknife; that it is not too
    small on average: Efron and Stein 1981).

    Parameters
    ----------
    attack : callable
        `log_ratios` or `nearness`.
    totals : ndarray of shape (D,)
    contributions : ndarray of shape (n, D)
        Of all subjects in the sums, at least 4.
    population : Population
    rng : Generator
        Divides the subjects into at most 20 blocks.

    Raises
    ------
    TooFewSubjectsError
        If there are fewer than 4 subjects.
    """
    people = len(contributions)
    if people < MIN_TESTED:
        raise TooFewSubjectsError(f"Tracing is judged on at least {MIN_TESTED} subjects, found fewer.")
    blocks = np.array_split(rng.permutation(people), min(people, _BLOCKS))
    won, pairs = np.zeros((2, len(blocks), len(blocks)))
    for one, other in combinations(range(len(blocks)), 2):
        out = np.concatenate([blocks[one], blocks[other]])
        left = totals - contributions[out].sum(axis=0)
        scores = attack(left, people - len(out), contributions, population)
        members = np.sort(np.delete(scores, out))
        for left_out, aside in ((one, other), (other, one)):
            strangers = scores[blocks[aside]]
            below = np.searchsorted(members, strangers, "left") + np.searchsorted(members, strangers, "right")
            won[left_out, aside] = (len(members) - below / 2).sum()
            pairs[left_out, aside] = len(members) * len(strangers)
    areas = won.sum(axis=1) / pairs.sum(axis=1)
    return float(np.sqrt((len(areas) - 1) * areas.var()))


def evaluate_tracing(
    found: Comparisons,
    *,
    error: float = 0.0,
    name: str,
    setting: str,
    others: int,
    budget: str,
    seed: int,
    seconds: float,
    further: tuple[Measure, ...] = (),
    draws: int = 1000,
) -> AttackResult:
    """Judge an attacker by how often a member scores higher than a stranger of the same sums.

    Parameters
    ----------
    found : Comparisons
    error : float
        Standard error, where it is larger than that of the bootstrap; see `jackknife_error`.
    name, setting, budget : str
    others : int
        People that the attacker learned from.
    seed, draws : int
        Of the bootstrap over subjects.
    seconds : float
        That the scores took.
    further : tuple of Measure

    Raises
    ------
    TooFewSubjectsError
        If there are fewer than 4 strangers.
    """
    value, low, high = found.area(seed, draws)
    reach = _NORMAL * error
    return AttackResult(
        family="released sums",
        name=name,
        knowledge="sums",
        setting=setting,
        value=value,
        ci_low=max(0.0, min(low, value - reach)),
        ci_high=min(1.0, max(high, value + reach)),
        subjects=found.won.shape[1],
        positives=int((~np.isnan(found.won)).any(axis=0).sum()),
        negatives=len(found.strangers),
        attacker_subjects=others,
        further=further,
        budget=budget,
        seconds=seconds,
    )


def tracing_control(
    kind: Literal["null", "positive"], name: str, found: Comparisons, *, seed: int, draws: int = 1000
) -> Control:
    """Judge comparisons of which it is known before what comes of them.

    Parameters
    ----------
    kind : {"null", "positive"}
        "null": strangers with strangers. "positive": members of sums over so few that they must be found, with an
        area of 0.75 or more.
    name : str
    found : Comparisons
    seed, draws : int

    Raises
    ------
    TooFewSubjectsError
        If there are fewer than 4 strangers.
    """
    value, low, high = found.area(seed, draws)
    is_null = kind == "null"
    error = max((high - low) / (2 * _NORMAL), 1e-12)
    return Control(
        family="released sums",
        kind=kind,
        name=name,
        value=value,
        ci_low=low,
        ci_high=high,
        expected="within 2.58 standard errors of 0.5" if is_null else f"{_FOUND} or more",
        passed=abs(value - 0.5) < _HIGHEST_Z * error if is_null else value >= _FOUND,
    )


def _whitened(totals: Floats, subjects: float, candidates: Floats, population: Population) -> tuple[Floats, Floats]:
    columns = len(population.mean)
    if totals.shape != (columns,) or candidates.ndim != 2 or candidates.shape[1] != columns:
        raise ShapeError(f"totals (D,) and candidates (m, D) need D = {columns}: {totals.shape}, {candidates.shape}.")
    if not subjects >= 2:
        raise ShapeError(f"Tracing takes sums over at least 2 subjects, found {subjects:g}.")
    whitening = population.whitening
    return (candidates - population.mean) @ whitening, (totals / subjects - population.mean) @ whitening
