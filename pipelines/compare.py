"""One table over strategies and baselines, seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from medfl.config.federation import Strategy
from medfl.config.settings import Config
from medfl.errors import ConfigError
from medfl.federation.program import Arrays
from medfl.results.atomic import write_text
from medfl.results.metrics import ResultModel, RunMetrics
from medfl.results.store import RunStore
from pipelines.baselines import judge, judge_ensemble, train_local, train_pooled
from pipelines.progress import Observer
from pipelines.simulate import Prepared, prepare, simulate

BASELINES = ("local", "ensemble", "pooled")
STRATEGIES = ("fedavg", "fedprox", "fedbn", "fedadam", "scaffold")
_STRATEGY: TypeAdapter[Strategy] = TypeAdapter(Strategy)


class ComparedModel(ResultModel):
    """Metrics of one model on the test subjects of all sites.

    Attributes
    ----------
    name : str
        "fedavg", "pooled", "local:SITE", "local" (each site its own model) or "ensemble".
    seed : int
    metrics : RunMetrics
    """

    name: str
    seed: int
    metrics: RunMetrics


class Comparison(ResultModel):
    """Everything `compare.json` holds."""

    config: str
    models: tuple[ComparedModel, ...]


@dataclass(frozen=True)
class Wanted:
    """What to compare.

    Attributes
    ----------
    strategies : tuple of str
        Kinds of strategy; the configuration's own where it is named, else with its default settings.
    baselines : tuple of str
        Of "local", "ensemble" and "pooled".
    seeds : int
        How often everything is repeated, each time with another start and another split.
    equal_steps : bool
        Let every local model take as many steps as the whole federation.
    """

    strategies: tuple[str, ...]
    baselines: tuple[str, ...]
    seeds: int
    equal_steps: bool = False

    def __post_init__(self) -> None:
        """Check the names."""
        unknown = set(self.baselines) - set(BASELINES)
        if unknown:
            raise ConfigError(f"--baselines must be of {', '.join(BASELINES)}, got {', '.join(sorted(unknown))}.")
        if self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {self.seeds}.")


def compare(config: Config, wanted: Wanted, out: Path, observer: Observer | None = None) -> Comparison:
    """Train and judge every wanted model; each federated run leaves its own run folder below `out`.

    Parameters
    ----------
    config : Config
    wanted : Wanted
    out : Path
    observer : Observer or None
    """
    chosen = {kind: with_strategy(config, kind) for kind in wanted.strategies}
    models: list[ComparedModel] = []
    for seed in range(wanted.seeds):
        seeded = with_seed(config, config.seed + seed)
        for kind, settings in chosen.items():
            folder = RunStore(out / f"{kind}-seed{seeded.seed}")
            run = simulate(
                with_seed(settings, seeded.seed), folder.folder, resume=folder.is_started(), observer=observer
            )
            models.append(ComparedModel(name=kind, seed=seeded.seed, metrics=run.metrics))
        if wanted.baselines:
            models += _baselines(seeded, wanted, observer or Observer())
        result = Comparison(config=config.name, models=tuple(models))
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "compare.json", result.model_dump_json(indent=2) + "\n")
    return result


def with_seed(config: Config, seed: int) -> Config:
    """Return the same run with another start and another split."""
    split = config.data.split.model_copy(update={"seed": config.data.split.seed + seed - config.seed})
    return config.model_copy(update={"seed": seed, "data": config.data.model_copy(update={"split": split})})


def with_strategy(config: Config, kind: str) -> Config:
    """Return the same run with another strategy in its default settings.

    Raises
    ------
    ConfigError
        If there is no such strategy.
    """
    if config.federation.strategy.kind == kind:
        return config
    try:
        strategy = _STRATEGY.validate_python({"kind": kind})
    except ValueError as error:
        raise ConfigError(f"--strategies must name known strategies, got {kind!r}.") from error
    return config.model_copy(update={"federation": config.federation.model_copy(update={"strategy": strategy})})


def _baselines(config: Config, wanted: Wanted, observer: Observer) -> Sequence[ComparedModel]:
    prepared = prepare(config, None, observer)
    sites = list(prepared.programs)

    def found(name: str, metrics: RunMetrics) -> ComparedModel:
        return ComparedModel(name=name, seed=config.seed, metrics=metrics)

    models: list[ComparedModel] = []
    if "pooled" in wanted.baselines:
        model = train_pooled(config, prepared)
        models.append(found("pooled", judge(config, prepared, dict.fromkeys(sites, model))))
    if "local" in wanted.baselines or "ensemble" in wanted.baselines:
        local = _local_models(config, prepared, wanted)
        if "local" in wanted.baselines:
            models.append(found("local", judge(config, prepared, local)))
            for site in sites:
                models.append(found(f"local:{site}", judge(config, prepared, dict.fromkeys(sites, local[site]))))
        if "ensemble" in wanted.baselines:
            models.append(found("ensemble", judge_ensemble(config, prepared, local)))
    return models


def _local_models(config: Config, prepared: Prepared, wanted: Wanted) -> dict[str, Arrays]:
    return {site: train_local(config, prepared, site, equal_steps=wanted.equal_steps) for site in prepared.programs}
