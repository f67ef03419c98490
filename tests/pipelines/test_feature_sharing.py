"""Runs that share protected features instead of weights."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.errors import ConfigError, FederationError, KeyFileError, PrivacyError
from medfl.federation.program import Arrays, EvaluateReply, Option, Order, SiteMemory
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_events import Account, Budget, Reserved
from medfl.privacy.class_sums import class_sums
from medfl.privacy.composition import REPLACE, NonPrivate, composed_epsilon, event_from
from medfl.privacy.directions import fit_directions
from medfl.privacy.key_files import KeyFile
from medfl.privacy.key_wrapping import Identity
from medfl.privacy.keys import ContextKey, KeyContext
from medfl.privacy.sampled_gaussian import Adjacency
from medfl.results.store import RunStore
from pipelines import feature_program
from pipelines.custody import FolderCustody, MemoryCustody
from pipelines.feature_events import features_event, sums_event
from pipelines.feature_program import FeatureProgram
from pipelines.predict import predict
from pipelines.progress import Observer
from pipelines.sealing import seal_release
from pipelines.simulate import prepare, simulate

TEXT = """\
name: tiny_features
sharing: features
features: {head: hub}
task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 60, visits: 2, sites: 2}
  sites: {kind: column}
  split: {train: 0.5, validation: 0.2, test: 0.3}
preprocessing: {size: [32, 32]}
network: {kind: efficientnet_lite0, hidden: 8}
training: {rounds: 2, batch_size: 16, learning_rate: 0.01}
evaluation: {minimum_subjects: 3, every: 1}
protection:
  minimize: {kind: bottleneck, directions: [1, 2, 4], components: 32}
  keyed: {kind: knt}
"""
MASKS = (
    "task={kind: segmentation, dimensions: 2, classes: {a: 1, b: 2}, patch: [32, 32]}",
    "network={kind: efficientnet_lite0, layer: stride8, hidden: 8}",
    "features.head=sites",
    "protection.minimize.directions=[4]",
    "protection.keyed.permutation=none",
)


def config(*overrides: str) -> Config:
    return parse_config(TEXT, overrides=overrides)


def releases(run: Path) -> dict[str, dict[str, str]]:
    """What -> its line of privacy.json, of the first site."""
    record = json.loads((run / "privacy.json").read_text())
    first = record["releases"][0]["site"]
    return {line["what"]: line for line in record["releases"] if line["site"] == first}


def every_release(run: Path) -> list[str]:
    return [line["what"] for line in json.loads((run / "privacy.json").read_text())["releases"]]


def alone(run: Path, *overrides: str) -> tuple[FeatureProgram, SiteMemory, Order]:
    """A site of its own, and the order with which the finished run's hub asked for its features."""
    program = next(iter(prepare(config(*overrides), None, Observer()).programs.values()))
    assert isinstance(program, FeatureProgram)
    options: dict[str, Option] = {"hub-key": Identity.generate().public_key()}
    return program, SiteMemory(), Order(1, 1, RunStore(run).read_minimization() or {}, {}, options)


def secrets_of(folder: Path) -> list[bytes]:
    return [KeyFile.load(path).key.secret_bytes() for path in sorted(folder.glob("*.key"))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "run"
    simulate(config(), folder)
    return folder


def test_a_run_on_shared_features_ends_with_metrics_and_says_what_left(finished: Path) -> None:
    metrics = RunStore(finished).read_metrics()
    assert metrics.pooled["accuracy"].value is not None
    history = RunStore(finished).read_history()
    assert len(history.rounds) == 2
    assert all(record.hub_loss is not None and not record.sites for record in history.rounds)
    assert all(one.studies > 0 and one.bytes_up > 0 and one.key_id for one in history.releases)
    assert all(one.bytes_learning > 1280**2 * 8 for one in history.releases)
    named = releases(finished)
    assert any(what.startswith("protected features of training studies (arm bottleneck+knt") for what in named)
    assert {"labels of the same studies", "sums and cross products of features per class"} <= set(named)
    assert all(line["epsilon"] == "Infinity" for line in named.values())
    assert not any("weights" in what for what in named)


def test_no_key_is_in_the_run_folder(finished: Path) -> None:
    keys = secrets_of(finished.with_name("run.keys"))
    assert keys
    content = [path.read_bytes() for path in finished.rglob("*") if path.is_file()]
    for key in keys:
        assert not any(key in data or key.hex().encode() in data for data in content)


def test_what_a_site_keeps_of_its_release_is_protected_and_lists_its_subjects(finished: Path) -> None:
    from safetensors import safe_open

    path = next(finished.glob("released/*/features-train.safetensors"))
    with safe_open(path, framework="numpy") as file:
        features, subjects = file.get_tensor("features"), json.loads(file.metadata()["subjects"])
    kept = RunStore(finished).read_minimization()
    assert kept is not None
    assert features.shape == (len(subjects), len(kept["directions/matrix"]))


def test_split_inference_gives_the_probabilities_the_site_judged(finished: Path, tmp_path: Path) -> None:
    cases = {case["study"]: case for case in RunStore(finished).read_cases()}
    prepared = prepare(config(), None, Observer())
    row = next(row for row in prepared.manifest.rows if row.study in cases)
    found = predict(finished, prepared.manifest.image_path(row), tmp_path / "predicted", site=row.site)
    assert found.done == 1
    header, values = (line.split(",") for line in found.table.read_text().splitlines())
    predicted = dict(zip(header, values, strict=True))
    expected = float(cases[row.study]["probability/lesion"])
    assert float(predicted["probability/lesion"]) == pytest.approx(expected, abs=1e-4)


def test_another_key_than_the_runs_predicts_nothing(finished: Path, tmp_path: Path) -> None:
    image = finished.parent / "picture.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(image)
    KeyFile.create(tmp_path / "federation.key", "federation")
    KeyFile.create(tmp_path / "site-1.key", "site")
    with pytest.raises(KeyFileError, match="another key id"):
        predict(finished, image, tmp_path / "out", site="site-1", keys=tmp_path)


def test_a_lost_key_is_named_and_not_replaced(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(finished, moved)
    with pytest.raises(KeyFileError, match="must be in the site"):
        predict(moved, finished.parent, tmp_path / "out", site="site-1")
    with pytest.raises(FederationError, match="none did"):
        simulate(config(), moved, resume=True)
    assert not (tmp_path / "run.keys").exists()
    assert len(RunStore(moved).read_history().rounds) == 2


def test_federated_directions_are_those_of_the_pooled_features(finished: Path) -> None:
    prepared = prepare(config(), None, Observer())
    programs = [program for program in prepared.programs.values() if isinstance(program, FeatureProgram)]
    parts = [program._samples("train", join_below=3) for program in programs]
    features = np.concatenate([part.features for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    subjects = [subject for part in parts for subject in part.subjects]
    pooled = class_sums(features, labels, subjects, classes=2, minimum_subjects=3)
    kept = RunStore(finished).read_minimization()
    assert kept is not None
    stored = kept["directions/matrix"]
    expected = fit_directions(pooled, len(stored), components=32)
    np.testing.assert_allclose(stored, expected.matrix, rtol=1e-6, atol=1e-8)


def test_a_run_that_goes_on_ends_where_an_unbroken_one_does(finished: Path, tmp_path: Path) -> None:
    keys = finished.with_name("run.keys")
    broken = tmp_path / "run"
    (tmp_path / "run.keys").mkdir(mode=0o700)
    for path in keys.iterdir():
        target = tmp_path / "run.keys" / path.name
        target.write_bytes(path.read_bytes())
        target.chmod(0o600)

    class Killed(Observer):
        def round_finished(self, record: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(config(), broken, observer=Killed())
    (first,) = RunStore(broken).read_history().rounds
    simulate(config(), broken, resume=True)
    assert RunStore(broken).read_history().rounds[0] == first  # it went on, and did not begin again
    for name in ("model.safetensors", "metrics.json", "minimization.safetensors"):
        assert (broken / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_site_with_another_key_is_named_and_nothing_is_trained(tmp_path: Path) -> None:
    class Wrong(MemoryCustody):
        """Every site made a key of its own."""

        def transform_key(self, site: str, context: KeyContext) -> ContextKey:
            return self._key(site).derive(context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.simulate.custody_beside", lambda store, **named: Wrong())
        with pytest.raises(PrivacyError, match="key ids differ"):
            simulate(config(), tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert any("protected features" in what for what in releases(tmp_path / "run"))  # they did leave


def test_a_changed_envelope_is_refused_and_the_others_are_used(tmp_path: Path) -> None:
    calls: list[int] = []

    def tampered(studies: Sequence[PreparedStudy], *, recipient: str, metadata: Mapping[str, str]) -> Arrays:
        sealed = seal_release(studies, recipient=recipient, metadata=metadata)
        calls.append(1)
        if len(calls) == 1:
            name = max(sealed)
            changed = sealed[name].copy()
            changed[-1] ^= 1
            sealed[name] = changed
        return sealed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_program, "seal_release", tampered)
        simulate(config("training.rounds=1"), tmp_path / "run")
    records = RunStore(tmp_path / "run").read_history().releases
    assert sorted(record.refused for record in records) == ["", "envelope"]


@pytest.mark.parametrize("lie", ["counts", "labels", "features"])
def test_what_cannot_be_is_refused_and_the_other_site_goes_on(tmp_path: Path, lie: str) -> None:
    calls: list[int] = []

    def lying_sums(self: FeatureProgram, order: Order) -> EvaluateReply:
        reply = honest_sums(self, order)
        calls.append(1)
        if len(calls) == 1:
            reply.measures["counts"] = -reply.measures["counts"]
        return reply

    def lying_release(studies: Sequence[PreparedStudy], *, recipient: str, metadata: Mapping[str, str]) -> Arrays:
        calls.append(1)
        changed = list(studies)
        if len(calls) == 1 and lie == "labels":
            changed[0] = replace(changed[0], target=torch.tensor(7))
        if len(calls) == 1 and lie == "features":
            changed[0] = replace(changed[0], image=torch.full_like(changed[0].image, torch.inf))
        return seal_release(changed, recipient=recipient, metadata=metadata)

    honest_sums = FeatureProgram.sums
    with pytest.MonkeyPatch.context() as patch:
        if lie == "counts":
            patch.setattr(FeatureProgram, "sums", lying_sums)
        else:
            patch.setattr(feature_program, "seal_release", lying_release)
        simulate(config("training.rounds=1"), tmp_path / "run")
    refused = [record.refused for record in RunStore(tmp_path / "run").read_history().releases]
    assert sorted(refused) == {"counts": ["", ""], "labels": ["", "targets"], "features": ["", "envelope"]}[lie]
    if lie != "counts":
        assert any("did not use" in what for what in every_release(tmp_path / "run"))


def test_the_cap_of_a_key_stops_a_release_before_anything_leaves(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="site_error"):
        simulate(config("protection.keyed.image_cap=3"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("released/*/features-train.safetensors"))


def test_a_site_judges_nothing_before_its_features_are_protected() -> None:
    prepared = prepare(config(), None, Observer())
    program = next(iter(prepared.programs.values()))
    assert isinstance(program, FeatureProgram)
    with pytest.raises(FederationError, match="must be protected"):
        _ = program.protection


def test_masks_are_decoded_from_protected_maps_and_no_feature_leaves_in_training(tmp_path: Path) -> None:
    run = simulate(config(*MASKS), tmp_path / "run")
    assert run.metrics.pooled["dice_mean"].value is not None
    history = RunStore(tmp_path / "run").read_history()
    assert all(record.studies == 0 and record.bytes_up == 0 for record in history.releases)
    named = releases(tmp_path / "run")
    assert not any("protected features" in what for what in named)
    assert "model weights after local training" in named
    program = next(iter(run.prepared.programs.values()))
    assert program.studies["train"][0].image.shape == (4, 4, 4)


def test_studies_are_classified_from_maps_whose_positions_are_permuted(tmp_path: Path) -> None:
    maps = ("network={kind: efficientnet_lite0, layer: stride8, hidden: 8}", "protection.minimize.directions=[2]")
    run = simulate(config(*maps), tmp_path / "run")
    assert run.metrics.pooled["accuracy"].value is not None
    program = next(iter(run.prepared.programs.values()))
    assert program.studies["train"][0].image.shape == (2, 4, 4)
    history = RunStore(tmp_path / "run").read_history()
    assert all(record.studies > 0 for record in history.releases)


def test_the_gaussian_mechanism_has_an_epsilon_and_others_have_none(tmp_path: Path) -> None:
    arm = "protection={noise: {kind: gaussian, epsilon: 4, delta: 0.001, studies_per_subject: 1}}"
    run = simulate(config(arm, "training.rounds=1"), tmp_path / "run")
    named = releases(tmp_path / "run")
    line = next(line for what, line in named.items() if what.startswith("protected features"))
    assert float(line["epsilon"]) == pytest.approx(4, rel=0.02)
    assert line["adjacency"] == "replace one subject"
    assert named["labels of the same studies"]["epsilon"] == "Infinity"
    for program in run.prepared.programs.values():
        subjects = [study.row.subject for study in program.studies["train"]]
        assert len(subjects) == len(set(subjects))


def test_with_a_key_for_each_site_every_site_has_its_own_head(tmp_path: Path) -> None:
    run = simulate(config("protection.keyed.custody=site"), tmp_path / "run")
    records = RunStore(tmp_path / "run").read_history().releases
    assert len({record.key_id for record in records}) == len(records) == 2
    model = RunStore(tmp_path / "run").read_model()
    assert {name.split("/")[0] for name in model} == {f"site:{site}" for site in run.prepared.programs}
    assert run.metrics.pooled["accuracy"].value is not None


def test_one_site_may_learn_the_directions_alone(tmp_path: Path) -> None:
    prepared = prepare(config(), None, Observer())
    site = next(iter(prepared.programs))
    alone = f"protection.minimize={{kind: bottleneck, directions: [2], learn: site, site: {site}, components: 16}}"
    simulate(config(alone, "training.rounds=1"), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "privacy.json").read_text())
    learned = [line["site"] for line in record["releases"] if "directions learned" in line["what"]]
    assert learned == [site]
    assert not any("cross products" in line["what"] for line in record["releases"])


def test_too_few_subjects_of_a_class_release_no_sums(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="none did"):
        simulate(config("evaluation.minimum_subjects=40"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("released/*/class-sums.safetensors"))


def test_a_feature_that_is_not_finite_is_never_released(tmp_path: Path) -> None:
    prepared = prepare(config("protection.minimize=null"), None, Observer())
    program = next(iter(prepared.programs.values()))
    assert isinstance(program, FeatureProgram)
    study = program.clear("train")[0]
    program.clear("train")[0] = replace(study, image=torch.full_like(study.image, torch.nan))
    with pytest.raises(PrivacyError, match="finite"):
        program.release(Order(1, 1, {}, {}, {"hub-key": ""}), SiteMemory())


def test_a_hub_gets_one_set_of_directions_and_no_other(finished: Path) -> None:
    program, memory, order = alone(finished)
    first = program.release(order, memory)
    assert program.release(order, memory).studies == first.studies
    other = {name: array + 0.5 for name, array in order.model.items()}
    with pytest.raises(PrivacyError, match="one set of minimization"):
        program.release(replace(order, model=other), memory)


def test_a_hub_gets_no_more_directions_than_the_plan_allows(finished: Path) -> None:
    program, memory, order = alone(finished)
    everything = {"directions/mean": np.zeros(1280), "directions/matrix": np.eye(1280)}
    with pytest.raises(PrivacyError, match="as many directions as the plan allows"):
        program.release(replace(order, model=everything), memory)


def test_a_hub_cannot_leave_out_the_saturation_of_the_plan(finished: Path) -> None:
    program, memory, order = alone(finished, "protection.minimize.saturate=0.6")
    with pytest.raises(PrivacyError, match="exactly where the plan saturates"):
        program.release(order, memory)


def test_a_plan_without_a_bottleneck_takes_no_directions(finished: Path) -> None:
    program, memory, order = alone(finished, "protection.minimize=null")
    with pytest.raises(PrivacyError, match="no bottleneck"):
        program.release(order, memory)


def test_a_hub_that_asks_for_features_the_plan_keeps_at_the_site_gets_none(finished: Path) -> None:
    program, memory, order = alone(finished, "features.head=sites")
    reply = program.release(replace(order, options={**order.options, "send": True}), memory)
    assert (reply.sealed, reply.studies) == ({}, 0)


def test_a_hub_may_ask_about_one_set_of_candidates(finished: Path) -> None:
    program, memory, order = alone(finished)
    candidates = {
        f"candidate/{k}/{part}": np.ones((2, 1280) if part == "weights" else 2)
        for k in (1, 2, 4)
        for part in ("weights", "bias")
    }
    assert program.choose(replace(order, model=candidates), memory).measures["right"].shape == (3, 2)
    with pytest.raises(PrivacyError, match="one set of candidates"):
        program.choose(replace(order, model={name: -array for name, array in candidates.items()}), memory)


def test_a_delta_that_is_too_large_for_so_many_subjects_stops_the_release() -> None:
    noisy = "protection={noise: {kind: gaussian, epsilon: 4, delta: 0.5}}"
    program = next(iter(prepare(config(noisy), None, Observer()).programs.values()))
    assert isinstance(program, FeatureProgram)
    with pytest.raises(ConfigError, match="delta must be"):
        program.release(Order(1, 1, {}, {}, {"hub-key": Identity.generate().public_key()}), SiteMemory())


def test_a_real_site_without_the_key_says_which_one_is_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="medfl key unwrap"):
        FolderCustody(tmp_path, create=False).epoch("north", "federation")


def test_no_site_may_take_the_name_of_the_shared_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must not be called"):
        FolderCustody(tmp_path, create=True).noise("federation", "label")


def test_a_head_on_protected_features_is_trained_privately_at_the_sites(tmp_path: Path) -> None:
    private = "privacy={kind: dp_sgd, epsilon: 4, delta: 1.0e-3, rate: 0.25}"
    run = simulate(config("features.head=sites", "protection.minimize=null", private), tmp_path / "run")
    lines = releases(run.folder)
    weights = lines["model weights after private training"]
    assert 3.8 < float(weights["epsilon"]) <= 4
    assert not any(part.loss for record in RunStore(run.folder).read_history().rounds for part in record.sites)
    booked = [balance.entries for balance in RunStore(run.folder).read_balances()]
    assert booked == [2, 2]


def test_releases_of_features_are_booked_before_they_are_made(tmp_path: Path) -> None:
    places = tmp_path / "ledgers"
    places.mkdir()
    account = Account("tiny_features", "research")
    for site in ("site-1", "site-2"):
        Ledger.create(places / f"{site}.db").close()
        with Ledger.open(places / f"{site}.db") as ledger:
            ledger.open_account(account, Budget(None, 1e-3, REPLACE))
    noised = (
        "protection={minimize: {kind: bottleneck, directions: [2], components: 32, epsilon: 4, delta: 1.0e-3}, "
        "noise: {kind: gaussian, epsilon: 4, delta: 1.0e-3}}"
    )
    simulate(config(noised), tmp_path / "run", ledgers=places)
    with Ledger.open(places / "site-1.db") as ledger:
        booked = [entry.content for entry in ledger.events() if isinstance(entry.content, Reserved)]
    assert [entry.release for entry in booked] == [
        "sums over features",
        "protected features",
        "labels of the same studies",
    ]
    kinds = [entry.event["type"] for entry in booked]
    assert kinds == ["Gaussian", "SelfComposed", "NonPrivate"]
    for event in (booked[0].event, booked[1].event):
        assert composed_epsilon({event_from(event): 1}, 1e-3, REPLACE) == pytest.approx(4, rel=0.01)


def test_released_labels_do_not_fit_into_a_limited_budget(tmp_path: Path) -> None:
    places = tmp_path / "ledgers"
    places.mkdir()
    for site in ("site-1", "site-2"):
        Ledger.create(places / f"{site}.db").close()
        with Ledger.open(places / f"{site}.db") as ledger:
            ledger.open_account(Account("tiny_features", "research"), Budget(50.0, 1e-3, REPLACE))
    noised = "protection={noise: {kind: gaussian, epsilon: 4, delta: 1.0e-3}}"
    with pytest.raises(ConfigError, match="what has no proof"):
        simulate(config(noised), tmp_path / "run", ledgers=places)
    private = ("features.head=sites", "privacy={kind: dp_sgd, epsilon: 4, delta: 1.0e-3, rate: 0.25}")
    with pytest.raises(ConfigError, match="what has no proof"):  # the bottleneck's sums
        simulate(config(*private), tmp_path / "other")


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_a_number_of_features_has_no_guarantee_where_a_subject_may_be_missing(adjacency: Adjacency) -> None:
    noised = config("protection={noise: {kind: gaussian, epsilon: 4, delta: 1.0e-3}}")
    assert (features_event(noised, adjacency) == NonPrivate()) == (adjacency is Adjacency.ADD_OR_REMOVE)
    assert sums_event(noised, adjacency) == NonPrivate()
