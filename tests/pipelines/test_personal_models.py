from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medfl.config.settings import Config
from medfl.errors import ConfigError, RunFolderError
from medfl.federation.program import Order, SiteMemory
from medfl.results.store import RunStore
from pipelines.predict import predict
from pipelines.progress import Observer
from pipelines.simulate import prepare, simulate
from pipelines.weights import as_arrays, mixed

MakeConfig = Callable[..., Config]


def test_a_personal_model_validates_at_least_as_well_as_the_global_one(make_config: MakeConfig) -> None:
    config = make_config("federation.personalize_epochs=2", "data.split={train: 0.4, validation: 0.3, test: 0.3}")
    prepared = prepare(config, None, Observer())
    program = next(iter(prepared.programs.values()))
    order = Order(1, 1, prepared.start, {}, {"split": "test"})

    def score() -> float:
        studies = program.studies["val"]
        return prepared.pipeline.score(
            [program.pipeline.judge(s, program.pipeline.predict([s.image], 0)[0][0]) for s in studies]
        )

    program.load(prepared.start)
    before = score()
    program.final_model(order, SiteMemory(), personalize_epochs=2)
    assert score() >= before


def test_without_validation_studies_the_model_stays_as_it_was(make_config: MakeConfig) -> None:
    config = make_config("data.split={train: 0.5, validation: 0.0, test: 0.5}")
    prepared = prepare(config, None, Observer())
    program = next(iter(prepared.programs.values()))
    found = program.final_model(Order(1, 1, prepared.start, {}, {}), SiteMemory(), personalize_epochs=2)
    for name, array in prepared.start.items():
        np.testing.assert_array_equal(found[name], array)


def test_personal_models_stay_in_the_sites_own_files(make_config: MakeConfig, tmp_path: Path) -> None:
    run = simulate(make_config("federation.strategy={kind: fedbn}"), tmp_path / "run")
    store = RunStore(run.folder)
    for site in run.metrics.sites:
        assert store.read_personal(site).keys() == store.read_model().keys()
    with pytest.raises(RunFolderError):
        store.read_personal("../../model")


def test_a_fedbn_run_predicts_with_a_sites_model_only(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("federation.strategy={kind: fedbn}")
    run = simulate(config, tmp_path / "run")
    manifest = prepare(config, None, Observer()).manifest
    image = manifest.image_path(manifest.rows[0])
    with pytest.raises(ConfigError, match="--site"):
        predict(run.folder, image, tmp_path / "out")
    assert predict(run.folder, image, tmp_path / "out", site=manifest.sites()[0]).done == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_mixing_interpolates_and_keeps_dtypes(share: float) -> None:
    before = {"w": np.zeros(3, np.float32), "n": np.array(2)}
    after = {"w": np.ones(3, np.float32), "n": np.array(5)}
    found = mixed(before, after, share)
    np.testing.assert_allclose(found["w"], share)
    assert found["w"].dtype == np.float32
    assert found["n"] == (5 if share >= 0.5 else 2)
    assert as_arrays({}) == {}
