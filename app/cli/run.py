"""`medfl demo`, `run`, `compare` and `predict`."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from click.core import ParameterSource

from app.cli.exit_codes import DATA

if TYPE_CHECKING:
    from medfl.config.settings import Config

_LARGEST = 1000
Settings = Annotated[list[str] | None, typer.Option("--set", help="Replace one setting, e.g. training.rounds=3.")]
ProtectionFile = Annotated[
    Path | None, typer.Option("--protection", help="YAML file that replaces 'protection' or 'privacy'.")
]
LedgerFolder = Annotated[
    Path | None, typer.Option("--ledger", help="Folder of the sites' ledgers, SITE.db; what they refuse is not run.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def run(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings of the run.")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished round.")] = False,
    protection: ProtectionFile = None,
    ledger: LedgerFolder = None,
    as_json: Json = False,
) -> None:
    """Train and judge a model over the sites of one configuration."""
    if resume and out is None:
        raise typer.BadParameter("--resume needs --out RUN, the folder of the run that goes on.")
    loaded = _loaded(config, tuple(settings or ()), protection)
    folder = out or Path("runs") / f"{loaded.name}-{datetime.now():%Y%m%d-%H%M%S}"
    _simulate(loaded, folder, resume=resume, ledgers=ledger, as_json=as_json)


def demo(
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/demo-TIME.")] = None,
    as_json: Json = False,
) -> None:
    """Train on made-up patients of three hospitals; needs no data and no network."""
    from importlib import resources

    from medfl.config.reading import parse_config

    text = resources.files("app.cli").joinpath("demo.yaml").read_text()
    folder = out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    _simulate(parse_config(text, source="demo"), folder, resume=False, ledgers=None, as_json=as_json)


def _simulate(config: object, folder: Path, *, resume: bool, ledgers: Path | None, as_json: bool) -> None:
    from app.cli.display import LiveDisplay, print_metrics
    from app.cli.display_privacy import print_guarantees
    from medfl.config.settings import Config
    from pipelines.simulate import simulate

    assert isinstance(config, Config)
    with LiveDisplay(quiet=as_json) as display:
        finished = simulate(config, folder, resume=resume, observer=display, ledgers=ledgers)
    if as_json:
        metrics = json.loads(finished.metrics.model_dump_json())
        answer = {"run": str(folder), "metrics": metrics, "left_out": len(finished.refusals)}
        typer.echo(json.dumps(answer | {"set_aside_at_import": finished.quarantined}))
        return
    print_metrics(finished.metrics)
    print_guarantees(config, finished)
    for refusal in finished.refusals:
        typer.echo(f"left out: study {refusal.study}: {refusal.detail}", err=True)
    if finished.quarantined:
        typer.echo(f"set aside at import: {finished.quarantined} files, see {finished.quarantine}", err=True)
    typer.echo(f"\nRun folder: {folder}")


def compare(
    context: typer.Context,
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG|RUN...", help="YAML file with the settings; with --audit alone: folders of audited runs."
        ),
    ],
    settings: Settings = None,
    strategies: Annotated[str, typer.Option(help="Comma-separated; default the configuration's own.")] = "",
    baselines: Annotated[str, typer.Option(help="Comma-separated, of local, ensemble, pooled.")] = "local,pooled",
    seeds: Annotated[int, typer.Option(help="Repetitions, each with another start and split.")] = 1,
    equal_steps: Annotated[
        bool, typer.Option("--equal-steps", help="Each local model takes as many steps as the whole federation.")
    ] = False,
    arms: Annotated[str, typer.Option(help="Comma-separated protections, or 'all' that fit.")] = "",
    protection: ProtectionFile = None,
    epsilon: Annotated[str, typer.Option(help="Comma-separated, for arms with differential privacy.")] = "8",
    std: Annotated[str, typer.Option(help="Comma-separated, for the control 'matched-noise'.")] = "1",
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Of audited runs, or with --arms: put utility against what attackers find, in a figure, too.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder; default runs/compare-NAME-TIME. Of audited runs: FILE.svg for the figure."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put strategies and baselines, protections, or audited runs into one table."""
    if audit and not arms:
        _check_alone(context)
        _compare_audits(places, out, as_json=as_json)
        return
    if len(places) != 1:
        raise typer.BadParameter(f"must be one configuration, got {len(places)} paths.", param_hint="CONFIG")
    from app.cli.display import LiveDisplay, print_comparison
    from pipelines.compare import BASELINES, STRATEGIES, Wanted
    from pipelines.compare import compare as compare_models

    _check_listed("--strategies", _listed(strategies), STRATEGIES)
    _check_listed("--baselines", _listed(baselines), BASELINES)
    loaded = _loaded(places[0], tuple(settings or ()), protection)
    folder = out or Path("runs") / f"compare-{loaded.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if arms:
        strengths = _numbers("--epsilon", epsilon), _numbers("--std", std)
        _compare_arms(loaded, folder, arms, strengths, seeds=seeds, audit=audit, as_json=as_json)
        return
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


def _compare_arms(
    config: "Config",
    folder: Path,
    arms: str,
    strengths: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    seeds: int,
    audit: bool,
    as_json: bool,
) -> None:
    from app.cli.display import LiveDisplay
    from app.cli.display_arms import arms_figure, print_arms
    from medfl.errors import AuditError
    from medfl.results.atomic import write_text
    from pipelines.compare_arms import COMPARABLE, WantedArms, comparable, compare_arms

    names = comparable(config) if arms == "all" else _listed(arms)
    _check_listed("--arms", names, COMPARABLE)
    if not names:
        raise typer.BadParameter(f"must be of {', '.join(COMPARABLE)}; got none.", param_hint="--arms")
    with LiveDisplay(quiet=as_json) as display:
        table = compare_arms(config, WantedArms(names, *strengths, seeds=seeds), folder, display)
    if as_json:
        typer.echo(table.model_dump_json())
    else:
        print_arms(table)
    if audit:
        try:
            write_text(folder / "utility.svg", arms_figure(table).svg)
        except AuditError as error:  # the table stands without it
            typer.echo(f"no figure: {error}", err=True)
    if not as_json:
        typer.echo(f"\nFolder: {folder}")


def _compare_audits(runs: list[Path], out: Path | None, *, as_json: bool) -> None:
    from app.cli.display_audits import print_audits
    from medfl.results.atomic import write_text
    from pipelines.audit_comparison import audits_figure, compare_audits

    if out is not None and out.suffix != ".svg":
        raise typer.BadParameter(f"must name a file that ends in .svg, got {out.name!r}.", param_hint="--out")
    table = compare_audits(runs)
    if as_json:
        typer.echo(table.model_dump_json())
    else:
        print_audits(table)
    if out is not None:
        svg = audits_figure(table).svg
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, svg)
        if not as_json:
            typer.echo(f"\nFigure: {out}")


def _check_alone(context: typer.Context) -> None:
    """Refuse options that mean nothing for runs that are finished."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        and parameter.name not in ("places", "audit", "out", "as_json")
    ]
    if given:
        raise typer.BadParameter(
            f"takes finished runs and --out, --json; got {', '.join(given)}. To run arms, add --arms.",
            param_hint="--audit",
        )


def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="Manifest, folder of images, or one image.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for masks and predictions.csv.")],
    site: Annotated[str, typer.Option("--site", help="Use this site's own model, or its keys.")] = "",
    keys: Annotated[
        Path | None, typer.Option("--keys", help="The site's folder of keys, where features are shared.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Apply a trained model to new studies. Research use only."""
    from pipelines.predict import predict as predict_studies

    done = predict_studies(run_folder, studies, out, site=site, keys=keys)
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


def _loaded(path: Path, settings: tuple[str, ...], protection: Path | None) -> "Config":
    """Read a configuration and the file of protections; what is set by hand holds over both."""
    from medfl.config.reading import load_config, with_protection

    if protection is None:
        return load_config(path, settings)
    late = tuple(one for one in settings if one.startswith(("protection.", "privacy.")))
    early = tuple(one for one in settings if one not in late)
    return with_protection(load_config(path, early), protection, late)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_listed(option: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"must be of {', '.join(known)}; got {', '.join(unknown)}.", param_hint=option)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in _listed(text))
    except ValueError as error:
        raise typer.BadParameter(f"must be numbers, got {text!r}.", param_hint=option) from error
    if not numbers or not all(0 < number <= _LARGEST for number in numbers):
        raise typer.BadParameter(f"must be numbers above 0 and at most {_LARGEST}, got {text!r}.", param_hint=option)
    return numbers
