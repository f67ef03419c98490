"""Inversion of weight updates, in an audit.

What is attacked are the weights that sites sent. Beside it stands a ladder of easier updates, made with the run's own
network, loss, optimizer and data: it tells where inversion begins to work.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from medfl.attacks.gradient_inversion_results import InversionCase, evaluate_gradient_inversion
from medfl.attacks.image_similarity import ssim
from medfl.audit.findings import Findings
from medfl.audit.pictures import Picture, picture_of
from medfl.results.attack import AttackResult, Control
from medfl.results.report import Budget, FamilyOutcome
from pipelines.audit_input import AttackInput, control, not_applicable, not_run
from pipelines.audit_rebuilding import (
    Images,
    Method,
    cases_of,
    first_linear,
    gradient_matching,
    made_update,
    seen,
    solve_first_layer,
    takes,
)
from pipelines.audit_updates import Example, SentUpdate, UpdateMaterial, update_material

_SOLVED = "first layer solved"
_MATCHING = "gradient matching"
_MOST_TWIN_STEPS = 8
_PLAIN_RATE = 1.0
_SMALL = 2**14
_REASON = "a curious hub that follows the protocol, each round by itself"

Rows = tuple[AttackResult, ...]


@dataclass(frozen=True)
class Plan:
    """How hard to try.

    Attributes
    ----------
    subjects : int
        Whose images are searched for in what sites sent, all sites together.
    at_once : int
        Most images in one search.
    steps : int
        Of a search.
    rungs : tuple of (int, int)
        Batch size and local steps of every rung of the ladder.
    rung_subjects : int
        Behind every rung, at least.
    """

    subjects: int
    at_once: int
    steps: int
    rungs: tuple[tuple[int, int], ...]
    rung_subjects: int


PLANS: Mapping[Budget, Plan] = {
    "quick": Plan(6, 2, 16, ((1, 1), (2, 1), (1, 2)), 3),
    "standard": Plan(48, 4, 40, ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8)), 8),
    "full": Plan(48, 8, 100, ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8)), 16),
}
_FEATURES = Plan(192, 64, 100, ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8)), 24)
"""Vectors are cheap: every budget can afford this."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Everything that stays the same from one attack to the next.

    Attributes
    ----------
    material : UpdateMaterial
    plan : Plan
    gallery : int
        Images among which one is named.
    draws, seed : int
    """

    material: UpdateMaterial
    plan: Plan
    gallery: int
    draws: int
    seed: int

    def judged(self, cases: Sequence[InversionCase], name: str, setting: str, budget: str, seconds: float) -> Rows:
        """Return the rows of `evaluate_gradient_inversion`."""
        material = self.material
        low, high = material.box
        return evaluate_gradient_inversion(
            cases,
            seen(material, material.prior[None])[0],
            seen(material, torch.stack([example.image for example in material.others])),
            name=name,
            setting=setting,
            budget=budget,
            attacker_subjects=len(material.own),
            seconds=seconds,
            gallery=self.gallery,
            data_range=high - low,
            draws=self.draws,
            seed=self.seed,
        )

    @property
    def solvable(self) -> bool:
        """Whether the first layer is fully connected, so that its input can be solved for."""
        return self.material.prior.ndim == 1 and first_linear(self.material.network) is not None


def gradient_inversion(given: AttackInput) -> Findings:
    """Rebuild training images from the weights that sites sent.

    The attacker is the hub: it holds the network, the loss, the weights before and after, the optimizer with its rates,
    and the number of local steps. It is also given the targets of the batch it guesses, which few real ones have;
    `medfl.attacks.gradient_inversion_results` says how targets are kept from naming anybody. Behind a frozen backbone
    features take the place of images.

    Strangers come from all sites. Where sites differ by their scanners, it may be the scanner that names an image of a
    site among them; such a finding errs on the side of caution.
    """
    if given.run.config.sharing == "features" and given.run.config.head_at == "hub":
        return not_applicable("gradient inversion", "the head was trained at the hub, no weight update left a site")
    material = update_material(given.run, given.budget, given.seed)
    if material is None:
        return not_run(
            "gradient inversion",
            "of no round both what sites sent and what they were sent before is known; keep_releases=all keeps it",
        )
    plan = _plan(material, given.budget)
    trial = Trial(material, plan, given.policy.gallery, given.draws, given.seed)
    rows: list[AttackResult] = []
    searched: list[InversionCase] = []
    for number in sorted({update.number for update in material.updates}):
        given.progress(f"what sites sent in round {number}")
        updates = [update for update in material.updates if update.number == number]
        if trial.solvable:
            rows += _solved(trial, updates)
        found, cases = _searched(trial, updates)
        rows += found
        searched += cases
    headline = tuple(index for index, row in enumerate(rows) if row.metric == "rank_1")
    ladder, controls = _ladder(trial, given.progress)
    return Findings(
        outcome=FamilyOutcome(
            family="gradient inversion",
            status="run",
            reason=_REASON,
            attacks=(*rows, *ladder),
            headline=headline,
            controls=controls,
            not_tried=("rounds after the first",) if material.first_round_only else (),
        ),
        pictures=(_worst(material, searched),) if material.is_image else (),
    )


def rung(
    trial: Trial,
    batch: int,
    steps: int,
    *,
    plain: bool = False,
    of_strangers: bool = False,
    change: Callable[[SentUpdate], SentUpdate] = lambda update: update,
) -> Rows:
    """Attack updates of few images and few local steps, made from the weights that the run began with.

    Parameters
    ----------
    trial : Trial
    batch, steps : int
        Images of one step, and local steps; all of them are searched for at once.
    plain : bool
        Take plain gradient steps of rate 1 in place of the run's optimizer at the rate of its first step.
    of_strangers : bool
        Make the update of other images than those asked for; then nothing can be found.
    change : callable
        What is done to an update before it leaves, for example a protection.
    """
    began = time.perf_counter()
    material, plan, seed = trial.material, trial.plan, trial.seed
    method: Method = solve_first_layer if trial.solvable else gradient_matching(plan.steps, seed)
    size = batch * steps
    drawn = _drawn(material.members, -(-plan.rung_subjects // size) * size, seed)
    rate = _PLAIN_RATE if plain else material.first_rate

    def sent(examples: Sequence[Example]) -> SentUpdate:
        batches = [examples[at : at + batch] for at in range(0, len(examples), batch)]
        return change(made_update(material, material.start, batches, rate=rate, seed=seed, plain=plain))

    cases: list[InversionCase] = []
    for number in range(len(drawn) // size):
        asked = drawn[number * size : (number + 1) * size]
        inside = _own(material, number, size, half=1) if of_strangers else asked
        rebuilt = method(material, sent(inside), asked)
        twins = None if trial.solvable else method(material, sent(_own(material, number, size, half=0)), asked)
        cases += cases_of(material, asked, rebuilt, twins)
    setting = f"batch {batch}, {steps} local step{'' if steps == 1 else 's'}" + (", plain gradient" if plain else "")
    name = _SOLVED if trial.solvable else _MATCHING
    budget = "one division per weight" if trial.solvable else f"targets known, {plan.steps} steps"
    return trial.judged(cases, name, setting, budget, time.perf_counter() - began)


def _plan(material: UpdateMaterial, budget: Budget) -> Plan:
    """Return the plan of a budget; twice the steps and subjects where images are flat and small."""
    shape = material.prior.shape
    if len(shape) == 1:
        return _FEATURES
    plan = PLANS[budget]
    if len(shape) == 3 and material.prior.numel() <= _SMALL:
        return replace(plan, steps=2 * plan.steps, rung_subjects=2 * plan.rung_subjects)
    return plan


def _ladder(trial: Trial, progress: Callable[[str], None]) -> tuple[list[AttackResult], tuple[Control, ...]]:
    """Return the rows of every rung, and the controls: a plain step must be broken, a stranger's must say nothing."""
    smallest = 1 if takes(trial.material, 1) else 2
    rows: list[AttackResult] = []
    for batch, steps in trial.plan.rungs:
        if batch >= smallest:
            progress(f"batch {batch}, {steps} local steps")
            rows += rung(trial, batch, steps)
    progress("controls")
    broken = rung(trial, smallest, 1, plain=True)[0]
    silent = rung(trial, smallest, 1, of_strangers=True)[0]
    return rows, (
        control(
            "gradient inversion",
            "positive",
            f"one plain gradient step on {smallest}",
            broken,
            broken.ci_low > broken.chance,
            "an interval above guessing",
        ),
        control(
            "gradient inversion",
            "null",
            "an update of strangers, the same targets",
            silent,
            silent.ci_low <= silent.chance,
            "an interval that reaches down to guessing",
        ),
    )


def _solved(trial: Trial, updates: Sequence[SentUpdate]) -> Rows:
    """Solve the first layer, and ask for members of every site."""
    began = time.perf_counter()
    each = max(1, trial.plan.subjects // len(updates))
    cases: list[InversionCase] = []
    for update in updates:
        rebuilt = solve_first_layer(trial.material, update, ())
        cases += cases_of(trial.material, _drawn(update.members, each, trial.seed), rebuilt, None)
    return trial.judged(cases, _SOLVED, _sent(updates), "one division per weight", time.perf_counter() - began)


def _searched(trial: Trial, updates: Sequence[SentUpdate]) -> tuple[Rows, list[InversionCase]]:
    """Search for guessed batches of every site."""
    began = time.perf_counter()
    material, plan = trial.material, trial.plan
    method = gradient_matching(plan.steps, trial.seed)
    at_once = min(plan.at_once, material.training.batch_size)
    each = max(1, plan.subjects // (len(updates) * at_once)) * at_once
    cases: list[InversionCase] = []
    for place, update in enumerate(updates):
        guessed = _drawn(update.members, each, trial.seed)
        twin = _twin_of(trial, updates, place)
        for start in range(0, len(guessed), at_once):
            batch = guessed[start : start + at_once]
            cases += cases_of(material, batch, method(material, update, batch), method(material, twin, batch))
    budget = f"{at_once} images guessed at once, targets known, {plan.steps} steps"
    return trial.judged(cases, _MATCHING, _sent(updates), budget, time.perf_counter() - began), cases


def _twin_of(trial: Trial, updates: Sequence[SentUpdate], place: int) -> SentUpdate:
    """Return an update of the same kind without the site's images: another site's, else the attacker's own."""
    if len(updates) > 1:
        return updates[(place + 1) % len(updates)]
    material, update = trial.material, updates[0]
    size = min(material.training.batch_size, len(material.own))
    steps = min(update.steps, _MOST_TWIN_STEPS, len(material.own) // size)
    batches = [material.own[at * size : (at + 1) * size] for at in range(steps)]
    return made_update(material, update.before, batches, rate=update.rate, seed=trial.seed)


def _sent(updates: Sequence[SentUpdate]) -> str:
    steps = [update.steps for update in updates]
    span = str(min(steps)) if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"
    return f"sent in round {updates[0].number} after {span} local steps"


def _drawn(members: Sequence[Example], count: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [members[index] for index in rng.permutation(len(members))[:count]]


def _own(material: UpdateMaterial, number: int, size: int, *, half: int) -> list[Example]:
    """Return images of the attacker's first or second half, further ones for every number."""
    middle = len(material.own) // 2
    part = material.own[:middle] if half == 0 else material.own[middle:]
    return [part[(number * size + at) % len(part)] for at in range(size)]


def _worst(material: UpdateMaterial, cases: Sequence[InversionCase]) -> Picture:
    """Show the reconstruction most like its original, of all searched for in what sites sent."""
    low, high = material.box
    worst = max(cases, key=lambda case: ssim(case.rebuilt[case.slot], case.original, high - low))
    found = worst.rebuilt[worst.slot]
    own: Images = seen(material, torch.stack([example.image for example in material.own]))
    alike = [float(np.corrcoef(found.ravel(), image.ravel())[0, 1]) for image in own]
    return picture_of(
        "gradient inversion",
        "From what a site sent: the reconstruction most like its original by SSIM, of all that were tried.",
        (
            ("reconstruction", found),
            ("original", worst.original),
            ("nearest image of others", own[int(np.nanargmax(alike))]),
        ),
        (low, high),
    )
