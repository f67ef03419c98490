"""Inversion in an audit, on small runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medfl.attacks.division import linkable_class
from medfl.audit.findings import Findings
from medfl.config.reading import parse_config
from medfl.errors import ImageReadError
from medfl.governance.policy import AuditPolicy
from medfl.results.attack import AttackResult
from medfl.results.store import RunStore
from pipelines import audit_reconstruction
from pipelines.audit_input import AttackInput
from pipelines.audit_inversion import inversion
from pipelines.audit_material import open_run, released_features
from pipelines.audit_reconstruction import released_rows, small_images
from pipelines.audit_stolen_key import features_before_key, keyed_releases
from pipelines.progress import Observer
from pipelines.simulate import simulate
from tests.pipelines.test_arms import TEXT

pytestmark = pytest.mark.slow

MANY = ("data.source.subjects=160", "data.split.train=0.8", "data.split.validation=0.1", "data.split.test=0.1")
MAPS = """\
name: tiny_maps
sharing: features
features: {head: hub}
task: {kind: segmentation, dimensions: 2, classes: {a: 1, b: 2}, patch: [32, 32]}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 80, visits: 2, sites: 2}
  sites: {kind: column}
  split: {train: 0.8, validation: 0.1, test: 0.1}
preprocessing: {size: [32, 32]}
network: {kind: efficientnet_lite0, layer: stride8, hidden: 8}
training: {rounds: 1, batch_size: 16, learning_rate: 0.01}
evaluation: {minimum_subjects: 3, every: 0, save_predictions: false}
protection:
  keyed: {kind: knt, mode: affine}
"""
Open = Callable[[Path], AttackInput]


def opened(folder: Path) -> AttackInput:
    run = open_run(RunStore(folder), Observer())
    material = released_features(run)
    assert material is not None
    one_class = material.rows(material.labels == linkable_class(material.subjects, material.labels))
    return AttackInput(run, material, one_class, AuditPolicy(), "quick", 0, lambda what: None)


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> AttackInput:
    folder = tmp_path_factory.mktemp("protected") / "run"
    simulate(parse_config(TEXT, overrides=MANY), folder)
    return opened(folder)


@pytest.fixture(scope="module")
def found(protected: AttackInput) -> Findings:
    return inversion(protected)


def rows(found: Findings, knowledge: str, metric: str = "rank_1") -> list[AttackResult]:
    return [one for one in found.outcome.attacks if (one.knowledge, one.metric) == (knowledge, metric)]


def test_verdicts_rest_on_rates_of_attackers_without_the_key(found: Findings) -> None:
    headline = [found.outcome.attacks[index] for index in found.outcome.headline]
    assert found.outcome.status == "run"
    assert {one.metric for one in headline} == {"rank_1"}
    assert {one.knowledge for one in headline} == {"anchored", "re-trained"}
    assert len([one for one in headline if one.knowledge == "re-trained"]) == 1
    assert not found.outcome.not_tried


def test_controls_hold_on_both_sides(found: Findings) -> None:
    controls = {(one.kind, one.name.split(":")[0]): one.passed for one in found.outcome.controls}
    assert set(controls) == {
        ("positive", "clear features as release"),
        ("positive", "images from clear features"),
        ("null", "random features"),
        ("null", "images from random features"),
    }
    assert all(passed for (kind, _), passed in controls.items() if kind == "null")


def test_the_key_undoes_the_transform_and_is_said_to_protect_nothing_then(found: Findings) -> None:
    exact = next(one for one in rows(found, "key", "relative_error") if one.name == "exact inverse")
    assert exact.value < 1e-3
    assert next(one for one in rows(found, "key") if one.name == "exact inverse").ci_low > exact.chance / 100
    assert "protects nothing" in found.outcome.reason
    names = {one.name for one in rows(found, "key")}
    assert {"gradient descent", "regression on self-made pairs", "key, then ridge", "key, then procrustes"} < names


def test_what_went_into_the_transform_is_what_came_out_under_the_key(protected: AttackInput) -> None:
    material = protected.material
    assert material is not None
    before = features_before_key(protected.run)
    (release,) = keyed_releases(protected.run, before)
    again = release.transform(torch.from_numpy(release.before)).numpy()
    np.testing.assert_allclose(again, material.released[release.rows], atol=1e-5)


def test_numbers_that_a_bottleneck_keeps_are_guessed_from_known_pairs(found: Findings) -> None:
    kept = {one.name: one for one in rows(found, "anchored")}
    assert kept["kernel ridge to kept numbers"].value > kept["ridge"].value


def test_one_picture_shows_the_most_similar_reconstruction(found: Findings) -> None:
    (picture,) = found.pictures
    assert [label for label, _ in picture.panels] == ["reconstruction", "original", "nearest of the attacker's own"]
    assert "SSIM" in picture.caption


def test_images_are_those_the_features_were_made_of(protected: AttackInput) -> None:
    material = protected.material
    assert material is not None
    studies = released_rows(protected.run)
    assert [row.subject for row in studies] == list(material.subjects)
    images = torch.from_numpy(small_images(protected.run, studies[:4]))[:, None]
    encoder = protected.run.prepared.pipeline.encoder
    assert encoder is not None
    with torch.inference_mode():
        np.testing.assert_allclose(encoder.eval()(images).numpy(), material.clear[:4], atol=1e-4)


def test_clear_features_give_images_away_and_there_is_no_key_to_steal(tmp_path: Path) -> None:
    simulate(parse_config(MAPS.split("protection:")[0]), tmp_path / "run")
    found = inversion(opened(tmp_path / "run"))
    headline = [found.outcome.attacks[index] for index in found.outcome.headline]
    (image,) = [one for one in headline if one.knowledge == "re-trained"]
    assert image.ci_low > image.chance
    assert all(one.passed for one in found.outcome.controls)
    assert not rows(found, "key")
    assert found.outcome.reason == ""


def test_without_the_keys_the_attacks_that_need_none_are_run(protected: AttackInput, tmp_path: Path) -> None:
    folder = protected.run.store.folder
    keys = folder.with_name(f"{folder.name}.keys")
    keys.rename(tmp_path / "keys")
    try:
        found = inversion(protected)
    finally:
        (tmp_path / "keys").rename(keys)
    assert "not beside the run folder" in found.outcome.reason
    assert rows(found, "re-trained")
    assert not rows(found, "key")


def test_images_that_are_gone_are_said_to_be_untried(protected: AttackInput, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> None:
        raise ImageReadError("missing", "the image must exist")

    monkeypatch.setattr(audit_reconstruction, "read_image", gone)
    found = inversion(protected)
    assert found.outcome.not_tried == ("reconstruction of images (an image cannot be read any more)",)
    assert not rows(found, "re-trained")
    assert not found.pictures


def test_a_key_for_each_site_is_attacked_site_by_site(tmp_path: Path) -> None:
    simulate(parse_config(TEXT, overrides=(*MANY, "protection.keyed.custody=site")), tmp_path / "run")
    found = inversion(opened(tmp_path / "run"))
    exact = [one for one in rows(found, "key", "relative_error") if one.name == "exact inverse"]
    assert [one.setting for one in exact] == ["key 1 of 2", "key 2 of 2"]
    assert all(one.value < 1e-3 for one in exact)


def test_positions_that_a_key_moved_are_found_from_known_maps(tmp_path: Path) -> None:
    simulate(parse_config(MAPS), tmp_path / "run")
    found = inversion(opened(tmp_path / "run"))
    moved = rows(found, "anchored", "fraction_correct")
    assert [one.setting for one in moved] == ["1 known images", "4 known images", "16 known images"]
    assert moved[-1].ci_low > 0.9 > moved[-1].chance
    assert not {found.outcome.attacks.index(one) for one in moved} & set(found.outcome.headline)
    assert "convolutional decoder" in {one.name for one in rows(found, "re-trained")}
