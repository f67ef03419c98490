"""`medfl demo`, `run`, `compare` and `predict`."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import DATA

Settings = Annotated[list[str] | None, typer.Option("--set", help="Replace one setting, e.g. training.rounds=3.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def run(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings of the run.")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished round.")] = False,
    as_json: Json = False,
) -> None:
    """Train and judge a model over the sites of one configuration."""
    from medfl.config.reading import load_config

    if resume and out is None:
        raise typer.BadParameter("--resume needs --out RUN, the folder of the run that goes on.")
    loaded = load_config(config, tuple(settings or ()))
    folder = out or Path("runs") / f"{loaded.name}-{datetime.now():%Y%m%d-%H%M%S}"
    _simulate(loaded, folder, resume=resume, as_json=as_json)


def demo(
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/demo-TIME.")] = None,
    as_json: Json = False,
) -> None:
    """Train on made-up patients of three hospitals; needs no data and no network."""
    from importlib import resources

    from medfl.config.reading import parse_config

    text = resources.files("app.cli").joinpath("demo.yaml").read_text()
    folder = out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    _simulate(parse_config(text, source="demo"), folder, resume=False, as_json=as_json)


def _simulate(config: object, folder: Path, *, resume: bool, as_json: bool) -> None:
    from app.cli.display import LiveDisplay, print_metrics
    from medfl.config.settings import Config
    from pipelines.simulate import simulate

    assert isinstance(config, Config)
    with LiveDisplay(quiet=as_json) as display:
        finished = simulate(config, folder, resume=resume, observer=display)
    if as_json:
        metrics = json.loads(finished.metrics.model_dump_json())
        answer = {"run": str(folder), "metrics": metrics, "left_out": len(finished.refusals)}
        typer.echo(json.dumps(answer | {"set_aside_at_import": finished.quarantined}))
        return
    print_metrics(finished.metrics)
    for refusal in finished.refusals:
        typer.echo(f"left out: study {refusal.study}: {refusal.detail}", err=True)
    if finished.quarantined:
        typer.echo(f"set aside at import: {finished.quarantined} files, see {finished.quarantine}", err=True)
    typer.echo(f"\nRun folder: {folder}")


def compare(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings of the run.")],
    settings: Settings = None,
    strategies: Annotated[str, typer.Option(help="Comma-separated; default the configuration's own.")] = "",
    baselines: Annotated[str, typer.Option(help="Comma-separated, of local, ensemble, pooled.")] = "local,pooled",
    seeds: Annotated[int, typer.Option(help="Repetitions, each with another start and split.")] = 1,
    equal_steps: Annotated[
        bool, typer.Option("--equal-steps", help="Each local model takes as many steps as the whole federation.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default runs/compare-NAME-TIME.")] = None,
    as_json: Json = False,
) -> None:
    """Put strategies and baselines into one table."""
    from app.cli.display import LiveDisplay, print_comparison
    from medfl.config.reading import load_config
    from pipelines.compare import Wanted
    from pipelines.compare import compare as compare_models

    loaded = load_config(config, tuple(settings or ()))
    folder = out or Path("runs") / f"compare-{loaded.name}-{datetime.now():%Y%m%d-%H%M%S}"
    wanted = Wanted(
        strategies=_listed(strategies) or (loaded.federation.strategy.kind,),
        baselines=_listed(baselines),
        seeds=seeds,
        equal_steps=equal_steps,
    )
    with LiveDisplay(quiet=as_json) as display:
        comparison = compare_models(loaded, wanted, folder, display)
    if as_json:
        typer.echo(comparison.model_dump_json())
        return
    print_comparison(comparison)
    typer.echo(f"\nFolder: {folder}")


def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="Manifest, folder of images, or one image.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for masks and predictions.csv.")],
    site: Annotated[str, typer.Option("--site", help="Use the model this site made its own.")] = "",
    as_json: Json = False,
) -> None:
    """Apply a trained model to new studies. Research use only."""
    from pipelines.predict import predict as predict_studies

    done = predict_studies(run_folder, studies, out, site=site)
    for name, sentence in done.refused:
        typer.echo(f"left out: {name}: {sentence}", err=True)
    if as_json:
        typer.echo(
            json.dumps({"table": str(done.table), "done": done.done, "refused": [list(r) for r in done.refused]})
        )
    else:
        typer.echo(f"{done.done} studies predicted, {len(done.refused)} left out. Table: {done.table}")
    if not done.done:
        raise typer.Exit(code=DATA)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
