from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medfl.config.settings import Config
from medfl.errors import ConfigError
from medfl.results.store import RunStore
from pipelines.baselines import judge, judge_ensemble, train_local, train_pooled
from pipelines.compare import Comparison, Wanted, compare, with_seed, with_strategy
from pipelines.progress import Observer
from pipelines.simulate import prepare, simulate

MakeConfig = Callable[..., Config]


def test_two_strategies_and_all_baselines_stand_in_one_table(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("evaluation.every=0", task="classification")
    wanted = Wanted(("fedavg", "fedbn"), ("local", "ensemble", "pooled"), seeds=1)
    result = compare(config, wanted, tmp_path)
    names = ["fedavg", "fedbn", "pooled", "local", "local:site-1", "local:site-2", "ensemble"]
    assert [model.name for model in result.models] == names
    assert Comparison.model_validate_json((tmp_path / "compare.json").read_text()) == result
    assert {len(model.metrics.pooled) for model in result.models} == {len(result.models[0].metrics.pooled)}
    assert RunStore(tmp_path / "fedbn-seed0").is_finished()
    assert result.models[0].metrics == RunStore(tmp_path / "fedavg-seed0").read_metrics()


def test_an_unknown_strategy_is_refused_before_anything_is_trained(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'magic'"):
        compare(make_config(), Wanted(("fedavg", "magic"), (), seeds=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("baselines", "seeds"), [(("magic",), 1), ((), 0)])
def test_wishes_that_cannot_be_met_are_refused(baselines: tuple[str, ...], seeds: int) -> None:
    with pytest.raises(ConfigError):
        Wanted(("fedavg",), baselines, seeds)


def test_a_seed_changes_start_and_split_and_nothing_else(make_config: MakeConfig) -> None:
    config = make_config("seed=3", "data.split={seed: 10}")
    seeded = with_seed(config, 5)
    assert (seeded.seed, seeded.data.split.seed) == (5, 12)
    assert with_seed(seeded, 3) == config


def test_the_strategy_of_the_configuration_keeps_its_settings(make_config: MakeConfig) -> None:
    config = make_config("federation.strategy={kind: fedprox, mu: 0.7}")
    assert with_strategy(config, "fedprox") is config
    assert with_strategy(config, "fedavg").federation.strategy.kind == "fedavg"


def test_judging_the_federated_model_gives_the_metrics_of_its_run(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("evaluation.every=0")
    run = simulate(config, tmp_path)
    prepared = prepare(config, None, Observer())
    model = RunStore(tmp_path).read_model()
    assert judge(config, prepared, dict.fromkeys(prepared.programs, model)) == run.metrics


def test_an_ensemble_of_one_is_that_model(make_config: MakeConfig) -> None:
    config = make_config("training.rounds=1", "evaluation.uncertainty_passes=0")
    prepared = prepare(config, None, Observer())
    model = train_pooled(config, prepared)
    alone = judge(config, prepared, dict.fromkeys(prepared.programs, model))
    assert judge_ensemble(config, prepared, {"only": model}) == alone
    twice = judge_ensemble(config, prepared, {"a": model, "b": model})
    for name, metric in alone.pooled.items():
        assert twice.pooled[name].value == pytest.approx(metric.value, abs=1e-6)


def test_local_models_see_their_own_site_and_are_repeatable(make_config: MakeConfig) -> None:
    config = make_config("training.rounds=1")
    prepared = prepare(config, None, Observer())
    first, again, other = (train_local(config, prepared, s, equal_steps=False) for s in ("site-1", "site-1", "site-2"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert any(not np.array_equal(array, other[name]) for name, array in first.items())
    assert any(
        not np.array_equal(array, first[name])
        for name, array in train_local(config, prepared, "site-1", equal_steps=True).items()
    )


def test_a_site_under_the_minimum_is_named_in_baselines_too(make_config: MakeConfig) -> None:
    config = make_config("data.sites={kind: sizes, shares: {big: 0.8, small: 0.2}}", "evaluation.minimum_subjects=4")
    prepared = prepare(config, None, Observer())
    models = dict.fromkeys(prepared.programs, prepared.start)
    assert judge(config, prepared, models).suppressed == {"small": "fewer than 4 subjects"}
    assert judge_ensemble(config, prepared, models).suppressed == {"small": "fewer than 4 subjects"}
