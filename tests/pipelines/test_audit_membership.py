"""Membership in an audit: found where a model overfits, and not believed where the groups differ without it."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medfl.config.reading import parse_config
from medfl.data.preparation import IGNORED
from medfl.errors import AuditError, KeyFileError
from medfl.governance.policy import AuditPolicy
from medfl.results.attack import AttackResult
from medfl.results.report import FamilyOutcome
from medfl.results.store import RunStore
from pipelines.audit_input import AttackInput
from pipelines.audit_material import AuditedRun, open_run
from pipelines.audit_membership import membership
from pipelines.audit_models import subjects_of, true_answer
from pipelines.progress import Observer
from pipelines.simulate import simulate
from tests.pipelines.test_arms import TEXT

pytestmark = pytest.mark.slow

MASKS = """\
name: tiny_masks
task: {kind: segmentation, dimensions: 2, classes: {one: 1, two: 2}, patch: [32, 32]}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 40, visits: 1, sites: 2}
  sites: {kind: column}
  split: {train: 0.5, validation: 0.1, test: 0.4}
preprocessing: {size: [32, 32]}
network: {kind: unet, channels: [8, 16], strides: [2], residual_units: 0, features: 8}
training: {rounds: 2, batch_size: 4, learning_rate: 0.01}
evaluation: {minimum_subjects: 3, every: 0, save_predictions: false}
"""


OVERFITTED = ("training.rounds=40", "training.batch_size=8", "training.learning_rate=0.003", "network.hidden=64")


def audited(text: str, folder: Path, *changes: str) -> AuditedRun:
    simulate(parse_config(text, overrides=changes), folder)
    return open_run(RunStore(folder), Observer())


def attacked(run: AuditedRun) -> FamilyOutcome:
    given = AttackInput(run, None, None, AuditPolicy(), "quick", 0, lambda line: None)
    return membership(given).outcome


def passed(outcome: FamilyOutcome, kind: str) -> list[bool | None]:
    return [control.passed for control in outcome.controls if control.kind == kind]


def named(outcome: FamilyOutcome, name: str) -> list[AttackResult]:
    return [attack for attack in outcome.attacks if attack.name == name]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> AuditedRun:
    return audited(TEXT, tmp_path_factory.mktemp("members") / "run")


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> AuditedRun:
    folder = tmp_path_factory.mktemp("members") / "run"
    weights = TEXT.split("protection:")[0]
    return audited(weights, folder, "sharing=weights", *OVERFITTED)


def test_the_signal_is_the_true_class_or_the_mean_cross_entropy_of_what_counts() -> None:
    assert true_answer(torch.tensor([0.2, 0.8]), torch.tensor(1)) == pytest.approx(0.8)
    maps = torch.tensor([[[0.5, 0.9], [0.1, 0.7]], [[0.5, 0.1], [0.9, 0.3]]])
    target = torch.tensor([[1, 0], [1, IGNORED]], dtype=torch.uint8)
    assert true_answer(maps, target) == pytest.approx(math.exp((math.log(0.5) + 2 * math.log(0.9)) / 3))
    assert true_answer(maps, torch.full_like(target, IGNORED)) == 1.0
    assert 0 < true_answer(torch.tensor([0.0, 1.0]), torch.tensor(0)) < 1e-9


def test_members_of_an_overfitted_model_are_found_in_every_model_that_the_hub_holds(overfitted: AuditedRun) -> None:
    found = attacked(overfitted)
    assert [attack.setting for attack in named(found, "RMIA")] == ["final model", "each site's model of the last round"]
    assert all(attack.ci_low > 0.5 for attack in named(found, "RMIA"))
    assert all(attack.value > 0.6 for attack in named(found, "loss threshold"))
    assert found.headline == (0, 1, 2, 3)
    assert {(attack.positives, attack.negatives) for attack in found.attacks} == {(30, 18)}
    assert passed(found, "positive") == passed(found, "null") == [True, True]
    assert "40 of 40 rounds" in named(found, "RMIA")[0].budget


def test_members_and_non_members_that_differ_without_the_model_void_the_family(overfitted: AuditedRun) -> None:
    programs = overfitted.prepared.programs
    kept = {site: program.studies for site, program in programs.items()}
    for program in programs.values():
        alike = [replace(s, image=0 * s.image, target=torch.tensor(1)) for s in program.studies["test"]]
        program.studies = program.studies | {"test": alike}
    try:
        assert False in passed(attacked(overfitted), "null")
    finally:
        for site, program in programs.items():
            program.studies = kept[site]


def test_a_head_at_the_hub_is_asked_about_what_it_was_fed_with(features: AuditedRun) -> None:
    world = subjects_of(features)
    answers = world.signals(features.store.read_model())
    cases = {case["study"]: case for case in features.store.read_cases()}
    judged = {s.row.study: a for s, a in zip(world.studies, answers, strict=True) if s.row.split == "test"}
    assert judged.keys() == cases.keys()
    for study in world.studies:
        if study.row.split == "test":
            stated = cases[study.row.study][f"probability/{study.row.target}"]
            assert judged[study.row.study] == pytest.approx(float(stated), abs=1e-3)
    found = attacked(features)
    assert {attack.setting for attack in found.attacks} == {"final model"}
    assert [row.value > 0.75 for row in found.controls if row.kind == "positive"] == [True, True]
    assert not found.not_tried


def test_features_under_another_key_are_not_taken_for_those_of_the_run(features: AuditedRun, tmp_path: Path) -> None:
    shutil.copytree(features.store.folder, tmp_path / "run")
    moved = replace(features, store=RunStore(tmp_path / "run"))
    with pytest.raises(KeyFileError, match="federation"):
        subjects_of(moved)
    simulate(features.config, tmp_path / "other")
    shutil.copytree(tmp_path / "other.keys", tmp_path / "run.keys")
    with pytest.raises(AuditError, match="again"):
        subjects_of(moved)


def test_a_head_for_each_site_is_asked_about_its_own_site(tmp_path: Path) -> None:
    run = audited(TEXT.replace("rounds: 1}\n", "rounds: 1, custody: site}\n"), tmp_path / "run")
    world = subjects_of(run)
    assert world.apart
    model = world.train(world.learned, run.config.training, [0])
    assert {name.split("/")[0] for name in model} == {"site:site-1", "site:site-2"}
    answers = world.signals(model)
    assert ((answers > 0) & (answers <= 1)).all()
    again = world.train(world.learned, run.config.training, [0])
    assert all((again[name] == array).all() for name, array in model.items())


def test_masks_learned_by_heart_are_found(tmp_path: Path) -> None:
    found = attacked(audited(MASKS, tmp_path / "run"))
    assert [attack.setting for attack in named(found, "RMIA")] == ["final model", "each site's model of the last round"]
    assert [row.value > 0.75 for row in found.controls if row.kind == "positive"] == [True, True]
    assert passed(found, "null") == [True, True]
    assert not found.not_tried


def test_layers_that_stay_at_the_sites_are_named_as_untried(tmp_path: Path) -> None:
    changes = ("federation.strategy={kind: fedbn}", "network.norm=batch")
    assert "FedBN" in attacked(audited(MASKS, tmp_path / "run", *changes)).not_tried[0]


def test_the_middle_of_an_image_is_asked_about_where_that_is_wanted(tmp_path: Path) -> None:
    run = audited(MASKS, tmp_path / "run", "task.patch=[16, 24]", "training.rounds=1")
    whole, middle = subjects_of(run), subjects_of(run, middle=True)
    cut = [replace(s, image=s.image[:, 8:24, 4:28], target=s.target[8:24, 4:28]) for s in whole.studies]
    model = run.store.read_model()
    assert middle.signals(model) == pytest.approx(replace(whole, studies=tuple(cut)).signals(model))
    larger = replace(whole, pipeline=middle.pipeline, middle=True)
    larger.pipeline.patch = (40, 40)
    assert (larger.signals(model) < 1).all()
