"""Inversion of what the sites of a small run sent, and of easier updates beside it."""

import base64
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medfl.audit.findings import Findings
from medfl.audit.verdicts import is_void, is_weak
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.errors import TooFewSubjectsError
from medfl.governance.policy import AuditPolicy, limit_of
from medfl.results.report import Budget
from medfl.results.store import RunStore
from pipelines.audit_gradients import Plan, Trial, gradient_inversion, rung
from pipelines.audit_input import AttackInput
from pipelines.audit_material import AuditedRun, open_run
from pipelines.audit_rebuilding import first_linear, made_update, takes
from pipelines.audit_updates import SentUpdate, UpdateMaterial, update_material
from pipelines.progress import Observer
from pipelines.simulate import simulate
from tests.pipelines.conftest import MakeConfig
from tests.pipelines.test_arms import TEXT

pytestmark = pytest.mark.slow

MASKS = (
    "training.schedule=constant",
    "network.channels=[8, 16]",
    "network.features=8",
    "network.norm=instance",
    "network.residual_units=0",
)
FEW = Plan(1, 1, 32, (), 4)
HEADS = TEXT.split("protection:")[0].replace(", hidden: 8", "")


def opened(config: Config, folder: Path) -> AuditedRun:
    simulate(config, folder)
    return open_run(RunStore(folder), Observer())


def attacked(run: AuditedRun, budget: Budget = "quick") -> Findings:
    return gradient_inversion(AttackInput(run, None, None, AuditPolicy(), budget, 0, lambda line: None))


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> AuditedRun:
    return opened(make_config(*MASKS), tmp_path_factory.mktemp("masks") / "run")


@pytest.fixture(scope="module")
def material(masks: AuditedRun) -> UpdateMaterial:
    found = update_material(masks, "standard", 0)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def found(masks: AuditedRun) -> Iterator[Findings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.audit_gradients.PLANS", {"quick": Plan(2, 2, 16, ((1, 1),), 2)})
        yield attacked(masks)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> AuditedRun:
    config = parse_config(HEADS, overrides=("sharing=weights",))
    return opened(config, tmp_path_factory.mktemp("head") / "run")


def trial(material: UpdateMaterial, plan: Plan = FEW) -> Trial:
    return Trial(material, plan, gallery=100, draws=100, seed=0)


def test_verdicts_rest_on_what_sites_sent_and_on_nothing_else(found: Findings) -> None:
    rows = [found.outcome.attacks[index] for index in found.outcome.headline]
    assert rows
    for row in rows:
        assert row.setting.startswith("sent in round")
        assert limit_of(AuditPolicy(), row.family, row.metric, row.chance) == 0.09
    assert not any(row.metric != "rank_1" for row in rows)
    assert any(row.setting == "batch 1, 1 local step" for row in found.outcome.attacks)


def test_a_plain_step_on_one_image_gives_it_away_and_a_strangers_update_nothing(found: Findings) -> None:
    assert found.outcome.status == "run"
    assert not is_void(found.outcome)
    assert not is_weak(found.outcome)
    (positive,) = [control for control in found.outcome.controls if control.kind == "positive"]
    assert positive.value > 0.5


def test_a_quick_audit_says_that_later_rounds_were_left_out(found: Findings) -> None:
    assert found.outcome.not_tried == ("rounds after the first",)


def test_one_picture_shows_the_worst_reconstruction(found: Findings) -> None:
    (picture,) = found.pictures
    assert [label for label, _ in picture.panels] == ["reconstruction", "original", "nearest image of others"]
    assert all(base64.b64decode(png).startswith(b"\x89PNG") for _, png in picture.panels)


def test_no_name_of_a_subject_is_in_the_findings(found: Findings, masks: AuditedRun) -> None:
    text = found.model_dump_json()
    subjects = {row.subject for row in masks.prepared.manifest.rows}
    assert subjects
    assert not any(f'"{name}"' in text for name in subjects)


def test_strangers_were_never_trained_on_and_are_shared_out_once(material: UpdateMaterial) -> None:
    own, others = ({example.subject for example in part} for part in (material.own, material.others))
    trained = {example.subject for update in material.updates for example in update.members}
    assert trained == {example.subject for example in material.members}
    assert not own & others
    assert not trained & (own | others)
    assert len(own) + len(others) == 24  # two fifths of 60


def test_a_later_round_began_with_the_mean_of_the_round_before(
    material: UpdateMaterial, tmp_path: Path, make_config: MakeConfig
) -> None:
    short = opened(make_config(*MASKS, "training.rounds=1"), tmp_path / "short")
    after_one = short.store.read_model()
    later = [update for update in material.updates if update.number == 2]
    assert len(later) == 2
    for update in later:
        assert update.before.keys() == after_one.keys()
        assert all(np.array_equal(update.before[name].numpy(), array) for name, array in after_one.items())


def test_the_attacker_knows_steps_and_rate_of_a_site(material: UpdateMaterial) -> None:
    for update in material.updates:
        assert update.steps == -(-len(update.members) // 8)  # one visit, one epoch, batches of 8
        assert update.rate == pytest.approx(0.01)


def test_a_made_update_is_what_training_gives(material: UpdateMaterial) -> None:
    batch = material.own[:2]
    sent = made_update(material, material.start, [batch], rate=0.5, seed=0, plain=True)
    network = material.network
    with torch.no_grad():
        for name, tensor in network.shared_state().items():
            tensor.copy_(material.start[name])
    loss = material.loss(network.train()(torch.stack([b.image for b in batch])), torch.stack([b.target for b in batch]))
    name, parameter = next(iter(network.named_parameters()))
    (gradient,) = torch.autograd.grad(loss, parameter)
    assert torch.allclose(sent.before[name] - sent.after[name], 0.5 * gradient, atol=1e-6)


def test_noise_on_an_update_hides_the_image(material: UpdateMaterial, found: Findings) -> None:
    def noised(update: SentUpdate) -> SentUpdate:
        generator = torch.Generator().manual_seed(len(update.members) + int(1e6 * float(update.members[0].image.sum())))
        after = {
            name: tensor + 10 * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
            for name, tensor in update.after.items()
        }
        return replace(update, after=after)

    clear = next(row for row in found.outcome.attacks if row.setting == "batch 1, 1 local step")
    hidden = rung(trial(material), 1, 1, change=noised)[0]
    assert clear.ci_low > clear.chance
    assert hidden.ci_low <= hidden.chance


def test_the_head_behind_a_frozen_backbone_is_solved_for(head: AuditedRun) -> None:
    found = attacked(head)
    assert not is_void(found.outcome)
    assert not is_weak(found.outcome)
    names = {found.outcome.attacks[index].name for index in found.outcome.headline}
    assert names == {"first layer solved", "gradient matching"}
    assert found.pictures == ()
    assert found.outcome.not_tried == ()


def test_mixing_more_images_into_a_step_of_the_head_hides_them(head: AuditedRun) -> None:
    found = update_material(head, "quick", 0)
    assert found is not None
    assert first_linear(found.network) == "head.1"
    plan = Plan(1, 1, 1, (), 24)
    one, many = rung(trial(found, plan), 1, 1, plain=True)[0], rung(trial(found, plan), 8, 1, plain=True)[0]
    assert one.value == 1.0
    assert many.value < one.value


def test_a_head_at_the_sites_is_attacked_and_one_at_the_hub_sends_no_update(tmp_path: Path, head: AuditedRun) -> None:
    sites = opened(parse_config(TEXT, overrides=("features.head=sites",)), tmp_path / "sites")
    assert attacked(sites).outcome.status == "run"
    hub = replace(head, config=parse_config(TEXT))
    assert attacked(hub).outcome.status == "not applicable"


def test_without_what_was_sent_before_nothing_is_claimed(masks: AuditedRun, make_config: MakeConfig) -> None:
    last = replace(masks, config=make_config(*MASKS, "evaluation.keep_releases=last"))
    outcome = attacked(last).outcome
    assert (outcome.status, outcome.attacks) == ("not run", ())
    assert "keep_releases=all" in outcome.reason


def test_a_network_that_needs_two_images_for_its_normalization_is_noticed(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config("preprocessing.size=[8, 8]", "training.rounds=1", task="classification")
    found = update_material(opened(config, tmp_path / "run"), "quick", 0)
    assert found is not None
    assert takes(found, 2)
    assert not takes(found, 1)


def test_too_few_strangers_are_refused(masks: AuditedRun) -> None:
    programs = {}
    for site, program in masks.prepared.programs.items():
        fewer = copy.copy(program)
        fewer.studies = program.studies | {"val": [], "test": []}
        programs[site] = fewer
    with pytest.raises(TooFewSubjectsError, match="not trained on"):
        update_material(replace(masks, prepared=replace(masks.prepared, programs=programs)), "quick", 0)
