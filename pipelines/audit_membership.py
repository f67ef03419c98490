"""Membership inference by subject, in an audit.

Members are the subjects that the run trained on, non-members its test subjects; validation subjects helped to choose
and are left out. Reference models learn from random halves of both together, whoever is a member, in one place, with
the run's settings and start and other random numbers. Halves come in pairs that complete each other, so for every
subject there are as many models that never saw it as there are pairs.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.membership import POSITIVE_CONTROL, blind_auc, evaluate_membership
from medfl.attacks.membership_signals import MembershipSignals, memberships_of
from medfl.audit.findings import Findings
from medfl.audit.nulls import HIGHEST_Z, from_chance
from medfl.config.federation import Augmentation, Training
from medfl.config.network import EfficientNetNetwork
from medfl.data.dataset import PreparedStudy
from medfl.federation.program import Arrays
from medfl.results.attack import AttackResult, Control
from medfl.results.report import Budget, FamilyOutcome
from pipelines.audit_input import AttackInput, control
from pipelines.audit_material import AuditedRun
from pipelines.audit_models import Bools, Floats, Subjects, for_site, subjects_of
from pipelines.build import build_pipeline, normalization_names
from pipelines.feature_program import FeatureProgram
from pipelines.site_program import PipelineProgram
from pipelines.weights import as_arrays

_ATTRIBUTES = ("site", "sex", "scanner")
_CANARIES = 16
_BESIDE = 6
_BY_HEART = 8
_BATCH = 16
_WIDE = 64
_ASKED = "; asked about the middle of each image"


@dataclass(frozen=True)
class _Effort:
    """Pairs of reference models, the share of the run's rounds that they train, and passes to learn by heart."""

    pairs: int
    networks: float
    heads: float
    passes: int


_EFFORT: Mapping[Budget, _Effort] = {
    "quick": _Effort(pairs=2, networks=0.1, heads=1.0, passes=30),
    "standard": _Effort(pairs=2, networks=0.5, heads=1.0, passes=60),
    "full": _Effort(pairs=4, networks=1.0, heads=1.0, passes=60),
}


def membership(given: AttackInput) -> Findings:
    """Tell training subjects from test subjects by what the released model gives their true answers.

    Where sites send weights, the hub has each site's model of the last round, too; it is attacked on the site's own
    subjects.
    """
    run, effort = given.run, _EFFORT[given.budget]
    world = subjects_of(run, middle=given.budget == "quick")
    memberships_of(world.learned, world.names)
    rng = np.random.default_rng(given.seed)
    seen = _halves(world.names, effort.pairs, rng)
    share = effort.networks if world.pipeline.encoder is None else effort.heads
    training = _shorter(run.config.training, share)
    started = time.perf_counter()
    references = []
    for number, half in enumerate(seen, start=1):
        given.progress(f"reference model {number} of {len(seen)}")
        references.append(world.signals(world.train(half, training, [given.seed, number])))
    taught = _Taught(
        np.stack(references),
        seen,
        f"{len(seen)} reference models on random halves of the subjects, {training.rounds} of "
        f"{run.config.training.rounds} rounds each{_ASKED if world.middle and world.pipeline.patch else ''}",
        time.perf_counter() - started,
    )
    models, missing = _released(run)
    attacks: list[AttackResult] = []
    for setting, model in models.items():
        given.progress(setting)
        attacks += _attacked(world, model, setting, taught, given)
    given.progress("controls")
    return Findings(
        outcome=FamilyOutcome(
            family="membership",
            status="run",
            reason="final model and, where weights are sent, the sites' last models; not the rounds before",
            attacks=tuple(attacks),
            headline=tuple(range(len(attacks))),
            controls=(*_null(world, taught, given), *_positive(world, taught, effort, given), _blind(world, given)),
            not_tried=(*missing, *_incomplete(run, world)),
        )
    )


@dataclass(frozen=True, eq=False)
class _Taught:
    """Signals (k, n) of reference models, whom they saw, what they cost in words and in seconds."""

    signals: Floats
    seen: Bools
    budget: str
    seconds: float


def _released(run: AuditedRun) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Return the models that the hub holds, by what they are, and which are missing."""
    final = run.store.read_model()
    models = {"final model": final}
    if run.config.sharing == "features" and run.config.head_at == "hub":
        return models, ()
    own: Arrays = {}
    for site in run.prepared.programs:
        last = _last_of(run, site)
        if last is None:
            return models, ("the sites' own models of the last round, which were not kept",)
        # what never leaves a site is as the hub's model has it
        own |= for_site(site, {name: last.get(name, array) for name, array in final.items()})
    return models | {"each site's model of the last round": own}, ()


def _last_of(run: AuditedRun, site: str) -> Arrays | None:
    """Return what a site sent in the last round that it took part in."""
    names = ["last-round", *(f"round-{number:04d}" for number in range(run.config.training.rounds, 0, -1))]
    for name in names:
        kept = run.store.read_release(site, name)
        if kept is not None:
            return kept[0]
    return None


def _incomplete(run: AuditedRun, world: Subjects) -> tuple[str, ...]:
    """Name what an attacker would have to add to a model that is not whole."""
    if run.config.federation.strategy.kind != "fedbn" or not normalization_names(world.pipeline.network):
        return ()
    return ("normalization layers that the attacker fits, since those of FedBN stay at the sites",)


def _halves(subjects: NDArray[np.str_], pairs: int, rng: np.random.Generator) -> Bools:
    """Return who is in each of pairs of random halves that complete each other, shape (2 * pairs, n)."""
    names = np.unique(subjects)
    rows = []
    for _ in range(pairs):
        half = np.isin(subjects, rng.permutation(names)[: len(names) // 2])
        rows += [half, ~half]
    return np.stack(rows)


def _shorter(training: Training, share: float) -> Training:
    return training.model_copy(update={"rounds": max(1, round(share * training.rounds))})


def _attacked(world: Subjects, model: Arrays, setting: str, taught: _Taught, given: AttackInput) -> list[AttackResult]:
    """Attack one model by the loss and by RMIA."""
    started = time.perf_counter()
    target = world.signals(model)
    asked = time.perf_counter() - started
    signals = MembershipSignals(target, taught.signals, taught.seen, world.names, world.learned, setting)
    loss, rmia = evaluate_membership(signals, seed=given.seed, draws=given.draws)
    return [
        loss.model_copy(update={"seconds": loss.seconds + asked}),
        rmia.model_copy(update={"seconds": rmia.seconds + asked + taught.seconds, "budget": taught.budget}),
    ]


def _null(world: Subjects, taught: _Taught, given: AttackInput) -> list[Control]:
    """Judge every subject by the model of the first pair that never saw it, with the run's memberships."""
    target = np.where(taught.seen[0], taught.signals[1], taught.signals[0])
    signals = MembershipSignals(target, taught.signals[2:], taught.seen[2:], world.names, world.learned)
    rows = evaluate_membership(signals, seed=given.seed, draws=given.draws)
    expected = f"within {HIGHEST_Z:.2f} standard errors of 0.5"
    name = "models that saw none of whom they judge"
    return [control("membership", "null", name, row, from_chance(row) < HIGHEST_Z, expected) for row in rows]


def _positive(world: Subjects, taught: _Taught, effort: _Effort, given: AttackInput) -> list[Control]:
    """Attack a model that knows its members by heart."""
    rng = np.random.default_rng([given.seed, 1])
    if given.run.config.task.kind == "segmentation":
        name, signals = "a few subjects learned by heart", _by_heart(world, taught, effort, given, rng)
    else:
        name, signals = "mislabeled subjects learned by heart", _mislabeled(effort, given, rng)
    rows = evaluate_membership(signals, seed=given.seed, draws=given.draws)
    expected = f"{POSITIVE_CONTROL} or more"
    return [control("membership", "positive", name, row, row.value >= POSITIVE_CONTROL, expected) for row in rows]


def _by_heart(
    world: Subjects, taught: _Taught, effort: _Effort, given: AttackInput, rng: np.random.Generator
) -> MembershipSignals:
    """Train on a few training subjects far too long; the others are training subjects as well."""
    names = rng.permutation(np.unique(world.names[world.learned]))
    count = min(_BY_HEART, len(names) // 4)
    inside, tested = np.isin(world.names, names[:count]), np.isin(world.names, names[: 5 * count])
    model = world.train(inside, _memorizing(given.run.config.training, effort.passes), [given.seed, 0])
    target = world.part(tested).signals(model)
    return MembershipSignals(
        target, taught.signals[:, tested], taught.seen[:, tested], world.names[tested], inside[tested]
    )


def _mislabeled(effort: _Effort, given: AttackInput, rng: np.random.Generator) -> MembershipSignals:
    """Learn unlikely labels of some subjects beside the right ones of others, and ask for the unlikely ones.

    Where a task is easy or features are few, nothing but a wrong label shows that it was learned by heart (Aerni, Zhang
    and Tramer 2024, "Evaluations of machine learning privacy defenses are misleading"). Features are clear here,
    and the head is wide enough to remember.
    """
    config = given.run.config
    network = config.network
    if isinstance(network, EfficientNetNetwork):
        network = network.model_copy(update={"dropout": 0.0, "hidden": max(network.hidden, _WIDE)})
    pipeline = build_pipeline(config.model_copy(update={"network": network}), given.run.prepared.pipeline.device)
    studies = [study for program in given.run.prepared.programs.values() for study in _clear(program)]
    names = rng.permutation(np.unique([study.row.subject for study in studies]))
    count = min(_CANARIES, len(names) // 8)
    odd, right = names[: 4 * count], names[4 * count :][: _BESIDE * count]
    beside = [study for study in studies if study.row.subject in set(right)]
    world = Subjects(pipeline, as_arrays(pipeline.network.shared_state()), tuple(beside), apart=False)
    training = _memorizing(config.training, effort.passes)
    world.train(np.ones(len(beside), dtype=np.bool_), training, [given.seed, 0])
    canaries = [
        replace(study, target=pipeline.predict([study.image], 0)[0][0].argmin())
        for study in studies
        if study.row.subject in set(odd)
    ]
    world = replace(world, studies=(*canaries, *beside))
    asked = np.arange(len(world.studies)) < len(canaries)
    subjects = world.names[asked]
    quarters = rng.permutation(odd).reshape(4, count)  # one for each reference model
    inside, *seen = (np.isin(subjects, part) for part in (rng.permutation(odd)[:count], *quarters))
    found = []
    for number, taken in enumerate((inside, *seen), start=1):
        chosen = np.concatenate([taken, np.ones(len(beside), dtype=np.bool_)])
        found.append(world.part(asked).signals(world.train(chosen, training, [given.seed, number])))
    return MembershipSignals(found[0], np.stack(found[1:]), np.stack(seen), subjects, inside)


def _clear(program: PipelineProgram) -> list[PreparedStudy]:
    return program.clear("train") if isinstance(program, FeatureProgram) else program.studies["train"]


def _memorizing(training: Training, passes: int) -> Training:
    return training.model_copy(
        update={
            "rounds": 1,
            "local_epochs": passes,
            "batch_size": min(training.batch_size, _BATCH),
            "schedule": "constant",
            "weight_decay": 0.0,
            "augmentation": Augmentation(),
        }
    )


def _blind(world: Subjects, given: AttackInput) -> Control:
    """Tell members from non-members by site, sex, scanner and class alone."""
    facts = [[str(getattr(study.row, name)) for study in world.studies] for name in _ATTRIBUTES]
    if given.run.config.task.kind == "classification":
        facts.append([str(int(study.target)) for study in world.studies])
    columns = [np.array(values) == value for values in facts for value in sorted(set(values))]
    return blind_auc(np.column_stack(columns), world.learned, world.names, given.seed, draws=given.draws)
