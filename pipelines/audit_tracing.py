"""Tracing of subjects in what a site releases about all of them together, in an audit."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.tracing import (
    MIN_OTHERS,
    MIN_TESTED,
    Comparisons,
    Population,
    evaluate_tracing,
    jackknife_error,
    log_ratios,
    nearness,
    tracing_control,
)
from medfl.errors import TooFewSubjectsError
from medfl.results.attack import AttackResult, Control, Measure
from medfl.results.report import Budget
from pipelines.audit_input import AttackInput

Floats = NDArray[np.float64]
_ATTACKS = {"tracing": log_ratios, "nearness": nearness}
_RELEASES: dict[Budget, int] = {"quick": 20, "standard": 60, "full": 200}
"""Releases that are made for one channel; each lets as many subjects stand aside as all of them need."""
_MOST_TESTED = 1000
_MOST_PAIRS = 60
_NULLS = 4
_TRIES = 5


@dataclass(frozen=True, eq=False)
class Channel:
    """One kind of sums of one site, with the truth behind it.

    Attributes
    ----------
    setting : str
        Which sums of which site.
    subjects : tuple of str
        Of each study behind the sums.
    studies : tuple
        Whatever `release` and `additive` take.
    other_subjects, others : tuple
        The same of people elsewhere, whom the attacker knows.
    release : callable
        Subjects and studies -> what the site would release. Raises TooFewSubjectsError where it would hold it back.
    layout : callable
        Release -> which sums it consists of; equal layouts have equal contributions.
    additive : callable
        Release and studies -> sums (D,), and what each study adds to them (n, D).
    """

    setting: str
    subjects: tuple[str, ...]
    studies: tuple[Any, ...]
    other_subjects: tuple[str, ...]
    others: tuple[Any, ...]
    release: Callable[[Sequence[str], Sequence[Any]], Any]
    layout: Callable[[Any], Hashable]
    additive: Callable[[Any, Sequence[Any]], tuple[Floats, Floats]]


@dataclass(frozen=True, eq=False)
class Traced:
    """What tracing came to in one channel.

    Attributes
    ----------
    attacks : tuple of AttackResult
    null, positive : Comparisons
        "tracing" between strangers, and in exact sums over two subjects.
    """

    attacks: tuple[AttackResult, ...]
    null: Comparisons
    positive: Comparisons


def traced(channel: Channel, given: AttackInput) -> Traced:
    """Attack one channel.

    Raises
    ------
    TooFewSubjectsError
        If there are too few subjects to test, or too few other people.
    """
    began = time.perf_counter()
    game = _Game(channel)
    rng = np.random.default_rng(given.seed)
    tested: list[int] = []
    left_out: list[NDArray[np.bool_]] = []
    scores: dict[str, list[Floats]] = {name: [] for name in _ATTACKS}
    order = rng.permutation(game.people)[:_MOST_TESTED]
    sums = 0
    for aside in np.array_split(order, min(_RELEASES[given.budget], len(order))):
        rest = np.setdiff1d(np.arange(game.people), aside)
        drawn = [rng.permutation(rest)[: len(aside)] for _ in range(_TRIES)]
        views = ((others, game.replaced(aside, others)) for others in drawn)
        others, view = next((found for found in views if found[1] is not None), (aside, None))
        if view is None:
            continue
        tested += aside.tolist()
        left_out += [np.isin(np.arange(game.people), np.concatenate([aside, others]))] * len(aside)
        sums = len(view.totals)
        for name, attack in _ATTACKS.items():
            scores[name] += [attack(view.totals, game.people, view.own, view.population)] * len(aside)
    if len(tested) < MIN_TESTED:
        raise TooFewSubjectsError(f"Tracing needs sums with and without a subject, for at least {MIN_TESTED} subjects.")
    seconds = (time.perf_counter() - began) / len(_ATTACKS)
    strangers = np.array(tested)
    whole = game.released(np.arange(game.people))
    attacks = tuple(
        evaluate_tracing(
            Comparisons.of(np.stack(own), strangers, np.stack(left_out)),
            error=jackknife_error(_ATTACKS[name], whole.totals, whole.own, whole.population, rng),
            name=name,
            setting=channel.setting,
            others=game.others,
            budget=f"{sums} sums over {game.people} subjects",
            seed=given.seed,
            seconds=seconds,
            further=(Measure(name="sums_per_subject", value=sums / game.people),),
            draws=given.draws,
        )
        for name, own in scores.items()
    )
    return Traced(attacks, game.strangers_only(rng), game.pairs(whole, strangers[:_MOST_PAIRS], rng))


def tracing_controls(found: Sequence[Traced], given: AttackInput) -> tuple[Control, ...]:
    """Judge the controls of several channels together."""
    null = Comparisons.joined([one.null for one in found])
    positive = Comparisons.joined([one.positive for one in found])
    few = "exact sums over two subjects: tracing"
    return (
        tracing_control("null", "strangers: tracing", null, seed=given.seed, draws=given.draws),
        tracing_control("positive", few, positive, seed=given.seed, draws=given.draws),
    )


@dataclass(frozen=True, eq=False)
class _View:
    """One release as the attacker sees it: sums, and what everybody would add to them."""

    totals: Floats
    own: Floats
    population: Population


class _Game:
    """The site, which makes releases, and the attacker, which scores candidates by them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._names, self._owners = np.unique(channel.subjects, return_inverse=True)
        self._others = np.unique(channel.other_subjects, return_inverse=True)[1].reshape(-1)
        self.people = len(self._names)
        self.others = int(self._others.max(initial=-1)) + 1
        if self.others < MIN_OTHERS:
            raise TooFewSubjectsError(f"Tracing takes at least {MIN_OTHERS} other people that the attacker knows.")
        self._known: dict[Hashable, tuple[Floats, Population]] = {}

    def released(self, people: NDArray[np.int64]) -> _View:
        """Return what the site releases about these people, who may be named twice."""
        channel = self._channel
        rows, subjects = [], []
        for place, person in enumerate(people):
            for row in np.flatnonzero(self._owners == person):
                rows.append(int(row))
                subjects.append(f"{place:06d}")
        made = channel.release(subjects, [channel.studies[row] for row in rows])
        layout = channel.layout(made)
        totals, _ = channel.additive(made, channel.studies[:1])
        if layout not in self._known:
            own = _by_person(channel.additive(made, channel.studies)[1], self._owners)
            elsewhere = _by_person(channel.additive(made, channel.others)[1], self._others)
            self._known[layout] = own, Population.of(elsewhere)
        return _View(totals, *self._known[layout])

    def replaced(self, people: NDArray[np.int64], others: NDArray[np.int64]) -> _View | None:
        """Return the release with other subjects' studies in these people's places; None if it is held back."""
        whole = np.arange(self.people)
        whole[people] = others
        try:
            return self.released(whole)
        except TooFewSubjectsError:
            return None

    def strangers_only(self, rng: np.random.Generator) -> Comparisons:
        """Compare strangers: half of the subjects stand aside at once, and one half of these is called members."""
        scores, strangers, left_out = [], [], []
        for _ in range(_NULLS):
            order = rng.permutation(self.people)
            aside, called = np.array_split(order[: self.people // 2], 2)
            both = np.concatenate([aside, called])
            view = self.replaced(both, order[self.people // 2 :][: len(both)])
            if view is None:
                continue
            scores += [log_ratios(view.totals, self.people, view.own, view.population)] * len(aside)
            left_out += [~np.isin(np.arange(self.people), called)] * len(aside)
            strangers += aside.tolist()
        if not strangers:
            raise TooFewSubjectsError("Sums over half of the subjects are held back; the null control needs them.")
        return Comparisons.of(np.stack(scores), np.array(strangers), np.stack(left_out))

    def pairs(self, view: _View, tested: NDArray[np.int64], rng: np.random.Generator) -> Comparisons:
        """Compare each tested stranger with the two subjects that make up some exact sums."""
        scores, left_out = [], []
        for candidate in tested:
            pair = rng.permutation(np.delete(np.arange(self.people), candidate))[:2]
            scores.append(log_ratios(view.own[pair].sum(axis=0), 2, view.own, view.population))
            left_out.append(~np.isin(np.arange(self.people), pair))
        return Comparisons.of(np.stack(scores), tested, np.stack(left_out))


def _by_person(rows: Floats, owners: NDArray[np.int64]) -> Floats:
    sums = np.zeros((int(owners.max(initial=-1)) + 1, rows.shape[1]))
    np.add.at(sums, owners, rows)
    return sums
