"""Reading single studies' values out of the measures that a site sends, in an audit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medfl.attacks.metrics_channel import differences, evaluate_claims, fit_overlaps, spread_in_cells
from medfl.evaluation.score_histogram import CELLS
from medfl.evaluation.segmentation import CASE_FIELDS
from medfl.results.attack import AttackResult, Control
from pipelines.audit_input import AttackInput, control
from pipelines.pipeline import Arrays

Floats = NDArray[np.float64]
Read = Callable[[Arrays], Floats]
_MOST_FITTED = 40
_STARTS = 4
_CARELESS = 8
_LEAST_READ = 0.9
_SLACK = 0.05
_REACH = 8.0
_SMALLEST, _LARGEST = 1e-6, 1.0 - 1e-6


@dataclass(frozen=True, eq=False)
class Measured:
    """One release of measures, with the studies behind it."""

    site: str
    split: str
    released: Arrays
    subjects: tuple[str, ...]
    judged: tuple[Any, ...]

    @property
    def setting(self) -> str:
        """What tells this release from others."""
        return f"measures of {self.site}, {self.split}"


@dataclass(frozen=True, eq=False)
class _Values:
    """What an attacker wants to know: one value per study, (n,), and the same of other people, (p,)."""

    truth: Floats
    subjects: tuple[str, ...]
    population: Floats


def read_values(
    one: Measured, elsewhere: Sequence[Measured], given: AttackInput
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    """Try to read every study's Dice, or its probability of each class that has a histogram.

    Parameters
    ----------
    one : Measured
    elsewhere : sequence of Measured
        What the attacker knows in full: the marginal distribution that it could guess from.
    given : AttackInput

    Returns
    -------
    attacks : tuple of AttackResult
        Metric "hit_rate"; no margin is set for it.
    controls : tuple of Control
        "null": the same claims from another site's measures. "positive": differences of exact sums with and without
        one subject.
    """
    names = list(given.run.config.task.classes)
    attacks: dict[str, Read] = {"differences": _subtracted}
    if given.run.config.task.kind == "segmentation":
        of: Callable[[Measured], Floats] = _dice
        if len(set(one.subjects)) == len(one.subjects) <= _MOST_FITTED:
            voxels = _voxels(elsewhere)
            attacks["fit of all sums"] = partial(_fitted, names=names, voxels=voxels, seed=given.seed)
    else:
        scored = [place for place, name in enumerate(names) if f"positives/{name}.counts" in one.released]
        of = partial(_probabilities, scored=scored)
        attacks["cells"] = partial(_from_cells, names=[names[place] for place in scored])
    (truth, subjects), (population, _) = _values([one], of), _values(elsewhere, of)
    wanted = _Values(truth, subjects, population)
    if not len(truth) or not len(population):
        return (), ()
    found, controls = [], [_careless(wanted, one.site, given)]
    for name, read in attacks.items():
        found.append(_judged(partial(read, one.released), wanted, name, one.setting, given))
        null = _judged(partial(read, elsewhere[0].released), wanted, name, one.setting, given)
        passed = null.ci_low <= null.chance + _SLACK
        expected = f"an interval that reaches down to guessing plus {_SLACK}"
        what = f"measures of other people for {one.site}"
        controls.append(control("released sums", "null", what, null, passed, expected))
    return tuple(found), tuple(controls)


def _judged(attack: Callable[[], Floats], wanted: _Values, name: str, setting: str, given: AttackInput) -> AttackResult:
    return evaluate_claims(
        attack,
        wanted.truth,
        wanted.subjects,
        wanted.population,
        name=name,
        setting=setting,
        seed=given.seed,
        draws=given.draws,
    )


def _careless(wanted: _Values, site: str, given: AttackInput) -> Control:
    """Read values from exact sums that left out one subject each."""
    names = np.asarray(wanted.subjects)
    chosen = np.unique(names)[:_CARELESS]
    sums = np.array([wanted.truth[names == name].sum() for name in chosen])
    whole = float(wanted.truth.sum())
    without = whole - sums
    target = _Values(sums, tuple(chosen.tolist()), wanted.population)
    found = _judged(lambda: whole - without, target, "differences", site, given)
    what = f"exact sums with and without a subject of {site}"
    passed = found.value >= _LEAST_READ
    return control("released sums", "positive", what, found, passed, f"{_LEAST_READ} or more")


def _values(measured: Sequence[Measured], of: Callable[[Measured], Floats]) -> tuple[Floats, tuple[str, ...]]:
    """Return all values (n,) that are defined, study by study, with their subjects."""
    if not measured:
        return np.zeros(0), ()
    table = np.concatenate([of(one) for one in measured])
    names = np.repeat([name for one in measured for name in one.subjects], table.shape[1]).reshape(table.shape)
    stated = ~np.isnan(table)
    return table[stated], tuple(names[stated].tolist())


def _dice(measured: Measured) -> Floats:
    return np.asarray(np.stack(measured.judged)[:, :, CASE_FIELDS.index("dice")])


def _probabilities(measured: Measured, scored: Sequence[int]) -> Floats:
    return np.stack([study.probabilities for study in measured.judged])[:, list(scored)]


def _voxels(measured: Sequence[Measured]) -> Floats:
    """Return tp, fp and fn (n, K, 3) of other people."""
    rows = np.concatenate([np.stack(one.judged) for one in measured])
    return np.asarray(rows[:, :, [CASE_FIELDS.index(name) for name in ("tp", "fp", "fn")]])


def _fitted(released: Arrays, names: Sequence[str], voxels: Floats, seed: int) -> Floats:
    """Claim the Dice of every subject, class by class, where all sums that it takes were released."""
    claims = [np.zeros(0)]
    for place, name in enumerate(names):
        parts = [released.get(f"{key}/{name}.{part}") for key in ("dice", "iou") for part in ("totals", "covariance")]
        counts = [released.get(f"voxels/{name}.{part}") for part in ("totals", "covariance")]
        present = voxels[voxels[:, place, 0] + voxels[:, place, 2] > 0, place]
        if any(part is None for part in (*parts, *counts)) or not len(present):
            continue
        n = int(released[f"dice/{name}.n_subjects"][0])
        total = [released[f"{key}/{name}.totals"][0] for key in ("dice", "iou")]
        variance = [released[f"{key}/{name}.covariance"][0, 0] for key in ("dice", "iou")]
        sums = {
            "sum": np.r_[total, released[f"voxels/{name}.totals"] / 1000],
            "spread": np.sqrt(np.r_[variance, np.diag(released[f"voxels/{name}.covariance"]) / 1e6] / max(n, 1)),
        }
        if n:
            claims.append(fit_overlaps(sums, n, present, np.random.default_rng(seed), starts=_STARTS)[0])
    return np.concatenate(claims)


def _from_cells(released: Arrays, names: Sequence[str]) -> Floats:
    """Claim probabilities spread evenly, in logits, over the cells of every histogram."""
    edges = np.linspace(-_REACH, _REACH, CELLS + 1)
    claims = [np.zeros(0)]
    for key in (f"{side}/{name}" for side in ("positives", "negatives") for name in names):
        if f"{key}.counts" in released:
            low, high, counts = (released[f"{key}.{part}"] for part in ("low", "high", "counts"))
            claims.append(spread_in_cells(edges[low], edges[high], counts))
    return np.asarray(expit(np.concatenate(claims)))


def _subtracted(released: Arrays) -> Floats:
    """Claim every difference of two released numbers that could be a score."""
    return differences([array for array in released.values() if array.dtype.kind == "f"], _possible)


def _possible(delta: Floats) -> NDArray[np.bool_]:
    return (delta > _SMALLEST) & (delta < _LARGEST)
