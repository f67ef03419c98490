"""Released sums, of features and of measures, in an audit."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.released_sums import evaluate_released_sums
from medfl.audit.findings import Findings
from medfl.config.privacy import BottleneckStage
from medfl.errors import MedFLError, RunFolderError, TooFewSubjectsError
from medfl.evaluation.measures import sum_by_subject
from medfl.privacy.class_sums import ClassSums, joined
from medfl.privacy.directions import fit_directions
from medfl.results.attack import AttackResult, Control, Measure
from medfl.results.report import FamilyOutcome
from pipelines.audit_input import AttackInput, not_applicable, not_run
from pipelines.audit_material import AuditedRun
from pipelines.audit_measures import attacked_measures
from pipelines.audit_tracing import Channel, Traced, traced, tracing_controls
from pipelines.directions import discriminant
from pipelines.feature_program import FeatureProgram
from pipelines.samples import Samples, sample_classes, study_samples

Floats = NDArray[np.float64]
Release = Callable[[Sequence[str], Sequence[Floats]], Floats]


def released_sums(given: AttackInput) -> Findings:
    """Tell from a site's sums whether a subject is in them, and read values out of its measures."""
    attacks, controls, not_tried = _class_sums(given)
    traces, left_out = _other_sums(given)
    measures = attacked_measures(given)
    traces += measures.traces
    headline = (*attacks, *(attack for one in traces for attack in one.attacks))
    controls += measures.controls
    not_tried += [*left_out, *measures.not_tried]
    try:
        controls += tracing_controls(traces, given) if traces else ()
    except TooFewSubjectsError as error:
        not_tried.append(f"controls of tracing: {error}")
    if not headline and not not_tried:
        minimum = given.run.config.evaluation.minimum_subjects
        return not_applicable(
            "released sums", f"no site released sums: there is no bottleneck, and fewer than {minimum} subjects each"
        )
    if not headline:
        return not_run("released sums", "; ".join(not_tried))
    return Findings(
        outcome=FamilyOutcome(
            family="released sums",
            status="run",
            reason=_reason(given.run),
            attacks=(*headline, *measures.values),
            headline=tuple(range(len(headline))),
            controls=tuple(controls),
            not_tried=tuple(not_tried),
        )
    )


def _reason(run: AuditedRun) -> str:
    """Say how sums leave, and what the attackers know."""
    stage = run.config.protection.minimize
    parts = ["the attacker holds a candidate's images, and its own people; it does not know the other subjects"]
    if run.config.sharing == "features" and isinstance(stage, BottleneckStage):
        how = "exactly" if stage.epsilon is None else f"with noise for epsilon {stage.epsilon:g}"
        parts.append(f"sums for the bottleneck reach the hub {how}")
    return "; ".join(parts)


def _class_sums(given: AttackInput) -> tuple[list[AttackResult], list[Control], list[str]]:
    """Tell members from strangers by the cross products of every site's class sums."""
    run, stage = given.run, given.run.config.protection.minimize
    attacks: list[AttackResult] = []
    controls: list[Control] = []
    left_out: list[str] = []
    for site, program in run.prepared.programs.items():
        kept = run.store.read_release(site, "class-sums")
        if kept is None or not isinstance(program, FeatureProgram) or not isinstance(stage, BottleneckStage):
            continue
        given.progress(f"class sums of {site}")
        sums = kept[0]
        inside, outside = (_samples(program, split, stage, run) for split in ("train", "test"))
        if stage.epsilon is None and not np.allclose(inside.features.sum(axis=0), sums["sums"].sum(axis=0)):
            left_out.append(f"membership in class sums of {site}: they are of other studies")
            continue
        members = np.arange(len(inside.subjects) + len(outside.subjects)) < len(inside.subjects)
        try:
            found, own = evaluate_released_sums(
                sums,
                np.concatenate([inside.features, outside.features]),
                members,
                [*inside.subjects, *outside.subjects],
                setting=f"class sums of {site}",
                seed=given.seed,
                draws=given.draws,
            )
        except TooFewSubjectsError as error:
            left_out.append(f"membership in class sums of {site}: {error}")
            continue
        count = Measure(
            name="samples_per_channel",
            value=float(sums["counts"].sum()) / len(sums["cross"]),
            note="under 1 the cross products span the samples exactly",
        )
        attacks += [one.model_copy(update={"further": (*one.further, count)}) for one in found]
        controls += [one.model_copy(update={"name": f"{one.name}: class sums of {site}"}) for one in own]
    return attacks, controls, left_out


def _other_sums(given: AttackInput) -> tuple[list[Traced], list[str]]:
    """Trace subjects in what else left the sites for a bottleneck: counts of right answers, or a fit's mean."""
    traces: list[Traced] = []
    left_out: list[str] = []
    stage = given.run.config.protection.minimize
    if given.run.config.sharing != "features" or not isinstance(stage, BottleneckStage):
        return traces, left_out
    for channel in (*_choices(given.run, stage), *_means(given.run, stage)):
        given.progress(channel.setting)
        try:
            traces.append(traced(channel, given))
        except MedFLError as error:
            left_out.append(f"tracing in {channel.setting}: {error}")
    if stage.learn == "site" and stage.epsilon is None:
        left_out.append(f"membership in the directions that {stage.site} learned")
    return traces, left_out


def _choices(run: AuditedRun, stage: BottleneckStage) -> list[Channel]:
    """Return each site's counts of right answers on validation studies, which every candidate's classifier gave."""
    released = {site: run.store.read_release(site, "choice-of-directions") for site in run.prepared.programs}
    if not any(released.values()):
        return []
    parts = [run.store.read_release(site, "class-sums") for site in run.prepared.programs]
    total = joined([ClassSums.from_arrays(part[0]) for part in parts if part is not None])
    whole = fit_directions(total, stage.directions[-1], method=stage.method, components=stage.components)
    classifiers = [discriminant(total, whole.first(k)) for k in stage.directions]
    classes, minimum = sample_classes(run.config), run.config.evaluation.minimum_subjects
    counted = {}
    for site, program in run.prepared.programs.items():
        if isinstance(program, FeatureProgram):
            samples = study_samples(run.config, program.cut, program.clear("val"), minimum_subjects=minimum)
            labels = np.eye(classes)[samples.labels]
            right = [
                labels * ((samples.features @ weights.T + bias).argmax(axis=1) == samples.labels)[:, None]
                for weights, bias in classifiers
            ]
            counted[site] = _by_subject(np.concatenate([*right, labels], axis=1), samples.subjects)

    def release(subjects: Sequence[str], rows: Sequence[Floats]) -> Floats:
        people = (np.stack(rows)[:, -classes:] > 0).sum(axis=0)
        if ((people > 0) & (people < minimum)).any():
            raise TooFewSubjectsError(f"A class must have at least {minimum} subjects.")
        return np.asarray(np.sum(rows, axis=0))

    channels = []
    for site, kept in released.items():
        if kept is None or site not in counted:
            continue
        if not np.array_equal(counted[site][1].sum(axis=0), np.r_[kept[0]["right"].ravel(), kept[0]["counts"]]):
            raise RunFolderError("Counts of right answers must follow from the sums that were released; they do not.")
        channels.append(_plain_channel(f"choice of directions of {site}", site, counted, release))
    return channels


def _means(run: AuditedRun, stage: BottleneckStage) -> list[Channel]:
    """Return the mean of the site that learned the directions alone."""
    kept = run.store.read_release(stage.site, "directions") if stage.learn == "site" else None
    if kept is None:
        return []
    summed: dict[str, tuple[tuple[str, ...], Floats]] = {}
    studies = {}
    for site, program in run.prepared.programs.items():
        if isinstance(program, FeatureProgram):
            samples = _samples(program, "train", stage, run)
            names, rows = _by_subject(samples.features, samples.subjects)
            own = np.unique(samples.subjects, return_counts=True)[1]
            weighs_once = stage.epsilon is not None
            summed[site] = names, rows / own[:, None] if weighs_once else rows
            studies[site] = len(names) if weighs_once else len(samples.subjects)
    # with noise the sums are not those of the studies; the difference stays the same whoever stands aside
    noise = kept[0]["directions/mean"] * studies[stage.site] - summed[stage.site][1].sum(axis=0)
    return [
        _plain_channel(
            f"mean of {stage.site}", stage.site, summed, lambda _, rows: np.asarray(np.sum(rows, axis=0) + noise)
        )
    ]


def _plain_channel(
    setting: str, site: str, summed: dict[str, tuple[tuple[str, ...], Floats]], release: Release
) -> Channel:
    """Return a channel whose sums are fixed: one row per subject, added up."""
    elsewhere = [other for other in summed if other != site]
    return Channel(
        setting=setting,
        subjects=summed[site][0],
        studies=tuple(summed[site][1]),
        other_subjects=tuple(f"{other} {name}" for other in elsewhere for name in summed[other][0]),
        others=tuple(row for other in elsewhere for row in summed[other][1]),
        release=release,
        layout=lambda made: None,
        additive=lambda made, rows: (made, np.stack(rows) if len(rows) else np.zeros((0, len(made)))),
    )


def _samples(program: FeatureProgram, split: str, stage: BottleneckStage, run: AuditedRun) -> Samples:
    """Return samples in the units of the sums: public units, clipped where noise follows."""
    samples = study_samples(run.config, program.cut, program.clear(split), minimum_subjects=0)
    if stage.epsilon is None:
        return samples
    norms = np.maximum(np.linalg.norm(samples.features, axis=1), np.finfo(np.float64).tiny)
    return replace(samples, features=samples.features * np.minimum(stage.clip / norms, 1.0)[:, None])


def _by_subject(rows: Floats, subjects: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """Add up the samples of each subject, in the order of their names."""
    names = np.unique(subjects)
    return tuple(names.tolist()), sum_by_subject(subjects, rows)
