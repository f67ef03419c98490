"""Released sums and measures, attacked where a run left them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medfl.audit.findings import Findings
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.governance.policy import AuditPolicy
from medfl.results.report import FamilyOutcome
from medfl.results.store import RunStore
from pipelines.audit_contributions import additive
from pipelines.audit_input import AttackInput
from pipelines.audit_material import open_run
from pipelines.audit_measures import measured_in
from pipelines.audit_sums import released_sums
from pipelines.progress import Observer
from pipelines.simulate import simulate
from tests.pipelines.test_arms import TEXT

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., Config]


def audited(folder: Path) -> Findings:
    run = open_run(RunStore(folder), Observer())
    return released_sums(AttackInput(run, None, None, AuditPolicy(), "quick", 0, lambda line: None))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums") / "run"
    text = TEXT.replace("subjects: 60, visits: 3", "subjects: 80, visits: 1").replace("every: 0", "every: 1")
    simulate(parse_config(text.replace("directions: [2]", "directions: [1, 2]")), folder)
    return folder


@pytest.fixture(scope="module")
def outcome(features: Path) -> FamilyOutcome:
    return audited(features).outcome


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    folder = tmp_path_factory.mktemp("measures") / "run"
    simulate(make_config("evaluation.every=1", "data.source.subjects=100"), folder)
    return folder


@pytest.fixture(scope="module")
def segmented(weights: Path) -> FamilyOutcome:
    return audited(weights).outcome


def test_exact_sums_over_fewer_studies_than_channels_tell_their_members_at_every_site(outcome: FamilyOutcome) -> None:
    rows = [outcome.attacks[index] for index in outcome.headline if outcome.attacks[index].name == "span"]
    assert {row.setting for row in rows} == {"class sums of site-1", "class sums of site-2"}
    assert all(row.ci_low > 0.95 for row in rows)
    further = [measure for row in rows for measure in row.further if measure.name == "samples_per_channel"]
    assert all(measure.value is not None and measure.value < 0.1 for measure in further)


def test_every_release_of_sums_and_measures_is_attacked(outcome: FamilyOutcome) -> None:
    traced = {attack.setting for attack in outcome.attacks if attack.name == "tracing"}
    kinds = ("choice of directions of {}", "measures of {}, test", "measures of {}, val")
    assert traced == {kind.format(site) for kind in kinds for site in ("site-1", "site-2")}
    assert outcome.status == "run"
    assert {attack.metric for attack in (outcome.attacks[index] for index in outcome.headline)} == {"auc"}
    assert outcome.not_tried == ()


@pytest.mark.parametrize("settings", ["learn: site, site: site-1", "epsilon: 2.0, delta: 0.001, clip: 30.0"])
def test_other_ways_to_learn_a_bottleneck_are_attacked_by_what_they_release(tmp_path: Path, settings: str) -> None:
    text = TEXT.replace("visits: 3", "visits: 1").replace("components: 16}", f"components: 16, {settings}}}")
    simulate(parse_config(text), tmp_path / "run")
    family = audited(tmp_path / "run").outcome
    sums = {(attack.name, attack.setting) for attack in family.attacks if "measures" not in attack.setting}
    if "site-1" in settings:
        assert sums == {(name, "mean of site-1") for name in ("tracing", "nearness")}
        assert family.not_tried == ("membership in the directions that site-1 learned",)
    else:
        assert sums == {("leverage", f"class sums of {site}") for site in ("site-1", "site-2")}
        assert all(attack.ci_low <= 0.5 for attack in family.attacks if attack.name == "leverage")
        assert "noise for epsilon 2" in family.reason


def test_controls_hold_for_features_and_for_weights(outcome: FamilyOutcome, segmented: FamilyOutcome) -> None:
    for family in (outcome, segmented):
        failed = [control for control in family.controls if control.passed is not True]
        assert not failed
        assert {control.kind for control in family.controls} == {"null", "positive"}


def test_a_run_that_shares_weights_is_attacked_by_its_measures(segmented: FamilyOutcome) -> None:
    assert segmented.status == "run"
    settings = {(attack.name, attack.setting) for attack in segmented.attacks}
    assert ("tracing", "measures of site-1, test") in settings
    assert ("tracing", "measures of site-2, val") in settings
    assert ("fit of all sums", "measures of site-1, test") in settings
    assert all("class sums" not in attack.setting for attack in segmented.attacks)


def test_no_single_value_is_read_out_of_what_sites_send(outcome: FamilyOutcome, segmented: FamilyOutcome) -> None:
    rows = [attack for family in (outcome, segmented) for attack in family.attacks if attack.metric == "hit_rate"]
    assert {row.name for row in rows} == {"differences", "cells", "fit of all sums"}
    assert all(row.ci_low <= row.chance + 0.05 for row in rows)


def test_bounds_over_rounds_are_stated_and_held_against_the_margin(weights: Path, segmented: FamilyOutcome) -> None:
    bounds = {
        attack.setting: measure
        for attack in segmented.attacks
        for measure in attack.further
        if measure.name == "bound_over_rounds" and attack.name == "tracing"
    }
    assert set(bounds) == {"measures of site-1, val", "measures of site-2, val"}
    for setting, measure in bounds.items():
        (row,) = [one for one in segmented.attacks if (one.name, one.setting) == ("tracing", setting)]
        assert measure.value is not None
        assert measure.value >= row.value
    assert "tracing in validation measures of 2 rounds together" in segmented.not_tried


def test_contributions_add_up_to_what_was_released(weights: Path, features: Path) -> None:
    for folder in (weights, features):
        run = open_run(RunStore(folder), Observer())
        found, unknown = measured_in(run)
        assert len(found) == 4
        assert not unknown
        for one in found:
            totals, rows = additive(one.released, one.judged, run.config)
            assert np.allclose(rows.sum(axis=0), totals, rtol=0.02, atol=4.0)  # voxel counts are rounded coarsely


def test_measures_that_no_kept_model_gives_again_are_said_to_be_left_out(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(weights, copy)
    table = (copy / "cases.csv").read_text().splitlines()
    (copy / "cases.csv").write_text("\n".join([table[0], *table[3:]]) + "\n")
    family = audited(copy).outcome
    assert "tracing in measures of site-1, test: no model that is kept gives them again" in family.not_tried


def test_a_run_that_held_all_measures_back_has_nothing_to_attack(tmp_path: Path, make_config: MakeConfig) -> None:
    simulate(make_config("evaluation.minimum_subjects=30", "evaluation.every=1"), tmp_path / "run")
    family = audited(tmp_path / "run").outcome
    assert family.status == "not applicable"
    assert "30" in family.reason


def test_no_name_of_a_subject_is_in_the_outcome(outcome: FamilyOutcome, features: Path) -> None:
    text = json.dumps(outcome.model_dump(mode="json"))
    names = {row["subject"] for row in RunStore(features).read_cases()}
    assert names
    assert not any(name in text for name in names)
