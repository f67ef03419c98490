import csv
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from safetensors import safe_open

from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.errors import ConfigError, DataError
from medfl.results.history import RoundRecord
from medfl.results.store import RunStore
from pipelines.build import build_strategy
from pipelines.compare import with_strategy
from pipelines.progress import Observer
from pipelines.simulate import Run, prepare, simulate

MakeConfig = Callable[..., Config]

STRATEGIES = ("fedavg", "fedprox", "fedbn", "fedadam", "scaffold")
ALWAYS = {
    "config.yaml",
    "plan.json",
    "history.json",
    "curves.svg",
    "metrics.json",
    "model.safetensors",
    "model_card.md",
    "privacy.json",
    "checkpoint.safetensors",
    "cases.csv",
}


class Killed(BaseException):
    pass


class Killer(Observer):
    """Ends the run after a round, as a kill would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def round_finished(self, record: RoundRecord) -> None:
        if record.number == self.after:
            raise Killed


def members(path: Path) -> list[str]:
    with safe_open(path, framework="numpy") as file:
        found: list[str] = json.loads(file.metadata()["subjects"])
        return found


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_run_leaves_a_whole_and_readable_run_folder(
    make_config: MakeConfig, tmp_path: Path, task: str, dimensions: int
) -> None:
    config = make_config(task=task, dimensions=dimensions)
    run = simulate(config, tmp_path / "run")
    store = RunStore(run.folder)
    assert {path.name for path in run.folder.iterdir() if path.is_file()} == ALWAYS
    assert not list(run.folder.rglob("*.part"))
    assert parse_config((run.folder / "config.yaml").read_text()) == config
    assert store.read_settings()[1]["data"].keys() == {"site-1", "site-2"}
    assert store.read_metrics() == run.metrics
    assert run.metrics.pooled
    assert run.metrics.sites.keys() == {"site-1", "site-2"}
    history = store.read_history()
    assert [record.number for record in history.rounds] == [1, 2]
    assert all(record.metrics and not record.skipped for record in history.rounds)
    assert all(site.bytes_up and site.bytes_down and not site.refused for r in history.rounds for site in r.sites)
    assert ElementTree.fromstring((run.folder / "curves.svg").read_text()).tag.endswith("svg")
    assert "Research use only" in (run.folder / "model_card.md").read_text()
    privacy = store.read_privacy()
    assert {release.site for release in privacy.releases} == {"site-1", "site-2"}
    assert all(math.isinf(release.epsilon) for release in privacy.releases)
    with (run.folder / "cases.csv").open(newline="") as file:
        cases = list(csv.DictReader(file))
    assert {case["split"] for case in cases} == {"test"}
    assert len({case["study"] for case in cases}) == len(cases) == sum(_counts(config)["test"].values())
    predictions = [path for path in run.folder.glob("predictions/*/*") if path.is_file()]
    assert len(predictions) == (len(cases) if task == "segmentation" else 0)
    assert all((run.folder / case["prediction"]).is_file() for case in cases if case.get("prediction"))


def _counts(config: Config) -> dict[str, dict[str, int]]:
    programs = prepare(config, None, Observer()).programs
    return {
        split: {site: program.describe().subjects[split] for site, program in programs.items()}
        for split in ("train", "val", "test")
    }


def test_the_same_seed_gives_the_same_model_and_another_one_another(make_config: MakeConfig, tmp_path: Path) -> None:
    models = [
        (simulate(make_config(f"seed={seed}"), tmp_path / name).folder / "model.safetensors").read_bytes()
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_a_run_does_not_depend_on_what_the_process_did_before(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("network.dropout=0.2", "training.augmentation={flip_axes: [0], flip: 0.5, noise: 0.5}")
    first = simulate(config, tmp_path / "a").folder / "model.safetensors"
    simulate(make_config("seed=9"), tmp_path / "between")
    assert first.read_bytes() == (simulate(config, tmp_path / "b").folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One undisturbed run per strategy."""
    folder = tmp_path_factory.mktemp("whole")
    return {kind: simulate(three_rounds(make_config, kind), folder / kind) for kind in STRATEGIES}


def three_rounds(make_config: MakeConfig, kind: str) -> Config:
    return with_strategy(make_config("training.rounds=3", "evaluation.every=3"), kind)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_killed_run_goes_on_to_the_same_model(
    make_config: MakeConfig, tmp_path: Path, whole: dict[str, Run], kind: str
) -> None:
    config = three_rounds(make_config, kind)
    with pytest.raises(Killed):
        simulate(config, tmp_path, observer=Killer(1))
    store = RunStore(tmp_path)
    assert not store.is_finished()
    assert len(store.read_history().rounds) == 1
    resumed = simulate(config, tmp_path, resume=True)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole[kind].folder / "model.safetensors").read_bytes()
    assert resumed.metrics == whole[kind].metrics
    assert [record.number for record in store.read_history().rounds] == [1, 2, 3]
    assert contents(tmp_path / "released") == contents(whole[kind].folder / "released")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_strategies_really_differ(whole: dict[str, Run]) -> None:
    models = {(run.folder / "model.safetensors").read_bytes() for run in whole.values()}
    assert len(models) == len(STRATEGIES)


def test_a_finished_run_is_not_overwritten_and_a_resumed_one_keeps_its_settings(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    simulate(make_config(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        simulate(make_config(), tmp_path)
    with pytest.raises(ConfigError, match="other settings"):
        simulate(make_config("training.rounds=3"), tmp_path, resume=True)
    assert (tmp_path / "config.yaml").read_text() == dump_config(make_config())
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_released_holds_what_left_with_the_subjects_behind_it(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    run = simulate(config, tmp_path)
    prepared = prepare(config, None, Observer())
    for site, program in prepared.programs.items():
        found = {path.stem: path for path in (tmp_path / "released" / site).iterdir()}
        assert found.keys() == {
            "round-0001",
            "round-0002",
            "measures-val-round-0001",
            "measures-val-round-0002",
            "measures-test",
        }
        for name, path in found.items():
            split = name.split("-")[1] if name.startswith("measures") else "train"
            assert members(path) == sorted({study.row.subject for study in program.studies[split]})
    up = {site.site: site.bytes_up for site in RunStore(tmp_path).read_history().rounds[-1].sites}
    with safe_open(tmp_path / "released" / "site-1" / "round-0002.safetensors", framework="numpy") as file:
        names = set(file.keys())
        assert up["site-1"] >= sum(file.get_tensor(name).nbytes for name in names)
    assert names == set(RunStore(run.folder).read_model())


def test_fedbn_releases_no_normalization(make_config: MakeConfig, tmp_path: Path) -> None:
    config = with_strategy(make_config(), "fedbn")
    prepared = prepare(config, None, Observer())
    local = build_strategy(config, prepared.pipeline.network, sites=3).instructions()["local-names"]
    assert isinstance(local, list)
    assert any(name.endswith("running_mean") for name in local)
    simulate(config, tmp_path)
    model = RunStore(tmp_path).read_model()
    for path in (tmp_path / "released").glob("*/round-*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            assert set(file.keys()) == model.keys() - set(local)
    for name in local:
        np.testing.assert_array_equal(model[name], prepared.start[name])


@pytest.mark.parametrize(("keep", "count"), [("none", 0), ("last", 2 * 3), ("all", 2 * 5)])
def test_releases_are_kept_as_asked(make_config: MakeConfig, tmp_path: Path, keep: str, count: int) -> None:
    simulate(make_config(f"evaluation.keep_releases={keep}"), tmp_path)
    assert len(list(tmp_path.glob("released/*/*.safetensors"))) == count


def test_a_site_under_the_minimum_sends_no_measures_and_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("data.sites={kind: sizes, shares: {big: 0.8, small: 0.2}}", "evaluation.minimum_subjects=4")
    subjects = _counts(config)["test"]
    assert subjects["small"] < 4 <= subjects["big"]
    run = simulate(config, tmp_path)
    assert run.metrics.suppressed == {"small": "fewer than 4 subjects"}
    assert run.metrics.sites.keys() == {"big"}
    assert not list(tmp_path.glob("released/small/measures-*"))
    held = [r for r in RunStore(tmp_path).read_privacy().releases if r.site == "small" and "measures" in r.what]
    assert held
    assert all(release.times == release.subjects == 0 and "held back" in release.note for release in held)


def test_privacy_counts_what_was_sent(make_config: MakeConfig, tmp_path: Path) -> None:
    simulate(make_config("training.rounds=3", "evaluation.every=2"), tmp_path)
    times = {r.what: r.times for r in RunStore(tmp_path).read_privacy().releases if r.site == "site-1"}
    assert times["model weights after local training"] == 3
    assert times["additive measures of the val split"] == 1
    assert times["additive measures of the test split"] == 1
    assert len(list(tmp_path.glob("released/site-1/measures-val-*"))) == 1


def test_masks_lie_on_their_images(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(dimensions=3)
    run = simulate(config, tmp_path)
    manifest = prepare(config, None, Observer()).manifest
    paths = list(run.folder.glob("predictions/*/*.nii.gz"))
    images = {row.study: manifest.image_path(row) for row in manifest.rows}
    for path in paths:
        image, mask = nibabel.load(images[path.name.removesuffix(".nii.gz")]), nibabel.load(path)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine)
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2}
    assert paths


def test_names_that_cannot_be_files_are_refused_before_anything_is_written(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("data.sites={kind: column, merge: {site-1: ../up}}")
    with pytest.raises(DataError, match="Site names"):
        simulate(config, tmp_path / "run")
    assert not (tmp_path / "up").exists()
    assert not RunStore(tmp_path / "run").is_started()


def test_a_site_without_training_studies_is_refused_by_name(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("task.dimensions=3", "task.patch=[16, 16, 16]")  # pictures where volumes are promised
    with pytest.raises(DataError, match="site-1 has none"):
        simulate(config, tmp_path)
