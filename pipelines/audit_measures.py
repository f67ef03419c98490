"""What the measures that sites send in evaluations tell of single subjects, in an audit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm

from medfl.data.dataset import PreparedStudy
from medfl.errors import MedFLError, RunFolderError
from medfl.results.attack import AttackResult, Control, Measure
from pipelines.audit_contributions import additive, judged_in_table, layout_of
from pipelines.audit_input import AttackInput
from pipelines.audit_material import AuditedRun
from pipelines.audit_tracing import Channel, Traced, traced
from pipelines.audit_values import Measured, read_values
from pipelines.custody import custody_beside
from pipelines.feature_program import FeatureProgram, own_head
from pipelines.pipeline import Arrays
from pipelines.protection import SiteProtection

BOUND = "bound_over_rounds"
"""Further measure: what an attack on the measures of all validation rounds could reach at most."""


@dataclass(frozen=True)
class MeasuresFound:
    """Attacks on measures.

    Attributes
    ----------
    traces : tuple of Traced
        Who is behind the measures.
    values : tuple of AttackResult
        Values that were read out of them.
    controls : tuple of Control
        Of the latter.
    not_tried : tuple of str
    """

    traces: tuple[Traced, ...]
    values: tuple[AttackResult, ...]
    controls: tuple[Control, ...]
    not_tried: tuple[str, ...]


def attacked_measures(given: AttackInput) -> MeasuresFound:
    """Trace subjects in the measures of every site, and try to read single values out of them."""
    found, not_tried = measured_in(given.run)
    rounds = _validations(given.run)
    traces: list[Traced] = []
    values: list[AttackResult] = []
    controls: list[Control] = []
    for one in found:
        elsewhere = [other for other in found if other.site != one.site]
        elsewhere = elsewhere or [other for other in found if other is not one]
        given.progress(one.setting)
        try:
            trace = traced(_channel(one, elsewhere, given.run), given)
        except MedFLError as error:
            not_tried.append(f"tracing in {one.setting}: {error}")
            continue
        traces.append(_over_rounds(trace, rounds) if one.split == "val" and rounds > 1 else trace)
        if one.split == "test":
            rows, own = read_values(one, elsewhere, given)
            values += rows
            controls += own
    not_tried += _rounds_that_matter(traces, rounds, given.policy.margins.sums_auc)
    return MeasuresFound(tuple(traces), tuple(values), tuple(controls), tuple(not_tried))


def measured_in(run: AuditedRun) -> tuple[list[Measured], list[str]]:
    """Return the kept measures whose studies are known, and what is not known."""
    found, unknown = [], []
    cases = run.store.read_cases()
    every = run.config.evaluation.keep_releases == "all"
    last = f"round-{run.config.training.rounds:04d}" if every else "last-round"
    for site in run.prepared.programs:
        for split, name in (("test", "measures-test"), ("val", f"measures-val-{last}")):
            kept = run.store.read_release(site, name)
            if kept is None:
                continue
            if split == "test":
                rows = [row for row in cases if row["site"] == site]
                subjects = tuple(row["subject"] for row in rows)
                judged: tuple[Any, ...] = tuple(judged_in_table(row, run.config) for row in rows)
            else:
                subjects, judged = _judged_again(run, site, split)
            one = Measured(site, split, kept[0], subjects, judged)
            if _reproduces(one, run):
                found.append(one)
            else:
                unknown.append(f"tracing in {one.setting}: no model that is kept gives them again")
    return found, unknown


def _judged_again(run: AuditedRun, site: str, split: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Judge the final model on studies whose cases were not kept."""
    program = run.prepared.programs[site]
    studies: list[PreparedStudy] = program.studies[split]
    pipeline, model = program.pipeline, _final_model(run, site)
    if isinstance(program, FeatureProgram):
        studies = program.allowed(program.clear(split))
        custody = custody_beside(run.store, create=False)
        protection = SiteProtection(run.config, program.cut, run.minimized, custody, site)
        images = protection.protect([study.image for study in studies], [study.row.study for study in studies])
        studies = [replace(study, image=image) for study, image in zip(studies, images, strict=True)]
        pipeline.cut_at(protection.shape, seed=run.config.seed)
        model = own_head(model, site)
    program.load(model)
    judged = [pipeline.judge(study, pipeline.predict([study.image], 0)[0][0]) for study in studies]
    return tuple(study.row.subject for study in studies), tuple(judged)


def _final_model(run: AuditedRun, site: str) -> Arrays:
    """Return the model that the site used in the last round, with its own layers where it has some."""
    if not run.config.federation.personalize_epochs:
        try:
            return run.store.read_personal(site)
        except RunFolderError:
            pass
    return run.store.read_model()


def _released_by(run: AuditedRun, subjects: Sequence[str], judged: Sequence[Any]) -> Arrays:
    minimum = run.config.evaluation.minimum_subjects
    return run.prepared.pipeline.measures(subjects, judged, minimum_subjects=minimum)


def _reproduces(one: Measured, run: AuditedRun) -> bool:
    """Tell whether the studies give the release again; six digits of a table may move a study over an edge."""
    try:
        again = _released_by(run, one.subjects, one.judged)
    except MedFLError:
        return False
    if layout_of(again) != layout_of(one.released):
        return False
    for name, array in one.released.items():
        step = again.get(name.removesuffix(".totals") + ".resolution", np.zeros(1))
        atol = 1.0 if array.dtype.kind == "i" or name.startswith("reliability.") else np.max(step, initial=0.0) + 1e-6
        if not name.endswith(".covariance") and not np.allclose(again[name], array, rtol=1e-3, atol=atol):
            return False
    return True


def _over_rounds(found: Traced, rounds: int) -> Traced:
    """Add to each attack what it would reach if every round told as much again, which is the most that rounds can.

    Normal scores that differ by d standard deviations have the area Phi(d / sqrt(2)), and d grows with the square root
    of the number of independent sums.
    """
    note = f"if {rounds} rounds of validation measures told as much as independent ones"

    def most(area: float) -> float:
        return float(norm.cdf(np.sqrt(rounds) * norm.ppf(area))) if area > 0.5 else area

    attacks = tuple(
        one.model_copy(
            update={
                "further": (
                    *one.further,
                    Measure(
                        name=BOUND,
                        value=most(one.value),
                        ci_low=most(one.ci_low),
                        ci_high=most(one.ci_high),
                        chance=0.5,
                        note=note,
                    ),
                )
            }
        )
        for one in found.attacks
    )
    return replace(found, attacks=attacks)


def _rounds_that_matter(traces: Sequence[Traced], rounds: int, margin: float) -> list[str]:
    """Say that rounds were not attacked together, where even independent ones might pass the margin."""
    highest = [
        measure.ci_high or 0.0
        for one in traces
        for attack in one.attacks
        for measure in attack.further
        if measure.name == BOUND
    ]
    if max(highest, default=0.0) < margin:
        return []
    return [f"tracing in validation measures of {rounds} rounds together"]


def _validations(run: AuditedRun) -> int:
    every = run.config.evaluation.every
    return sum(1 for one in run.store.read_history().rounds if every and not one.number % every and not one.skipped)


def _channel(one: Measured, elsewhere: Sequence[Measured], run: AuditedRun) -> Channel:
    return Channel(
        setting=one.setting,
        subjects=one.subjects,
        studies=one.judged,
        other_subjects=tuple(f"{other.site} {other.split} {name}" for other in elsewhere for name in other.subjects),
        others=tuple(study for other in elsewhere for study in other.judged),
        release=lambda subjects, judged: _released_by(run, subjects, judged),
        layout=layout_of,
        additive=lambda released, judged: additive(released, judged, run.config),
    )
