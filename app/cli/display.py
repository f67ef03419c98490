"""What a person sees while a run goes on, and at its end."""

import sys
import time
from collections.abc import Mapping

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from medfl.results.history import RoundRecord, SiteRound
from medfl.results.metrics import MetricValue, RunMetrics
from pipelines.compare import Comparison
from pipelines.progress import Observer

_MAIN = (
    "dice_mean",
    "hd95_mm",
    "nsd@",
    "missed_rate",
    "auroc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "ece",
    "sensitivity",
    "specificity",
)
_FILE_WIDTH = 160
_COMPARED = ("dice_mean", "auroc", "average_precision", "balanced_accuracy")
_HEADLINES = ("dice", "auroc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


class LiveDisplay(Observer):
    """Rounds, sites, losses and time left, on stderr and only on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self.console = Console(stderr=True)
        self.shown = self.console.is_terminal and not quiet
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.shown,
        )
        self._reading: TaskID | None = None
        self._rounds: TaskID | None = None
        self._sites: TaskID | None = None
        self._began = time.monotonic()

    def __enter__(self) -> "LiveDisplay":
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self.progress.stop()

    def preparing(self, done: int, total: int) -> None:
        """Show how many studies are read."""
        if self._reading is None:
            self._reading = self.progress.add_task("reading studies", total=total, note="")
        self.progress.update(self._reading, completed=done)

    def started(self, sites: tuple[str, ...], rounds: int, done: int) -> None:
        """Show how many rounds there are."""
        self._rounds = self.progress.add_task("rounds", total=rounds, completed=done, note="")
        self._sites = self.progress.add_task("sites", total=len(sites), note=", ".join(sites))

    def round_started(self, number: int) -> None:
        """Begin counting replies anew."""
        if self._sites is not None:
            self.progress.reset(self._sites, description=f"round {number}", note="")

    def site_replied(self, number: int, reply: SiteRound) -> None:
        """Show the reply."""
        loss = "-" if reply.loss is None else f"{reply.loss:.3f}"
        note = f"refused: {reply.refused}" if reply.refused else f"loss {loss}"
        if self._sites is not None:
            self.progress.update(self._sites, advance=1, note=f"{reply.site} {note}")

    def round_finished(self, record: RoundRecord) -> None:
        """Show the round's metrics."""
        headline = _headline(record.metrics)
        note = f"skipped: {record.skipped}" if record.skipped else headline
        if self._rounds is not None:
            if note:
                self.progress.update(self._rounds, advance=1, note=note)
            else:
                self.progress.update(self._rounds, advance=1)

    def finishing(self) -> None:
        """Say what the wait is for."""
        if self._sites is not None:
            self.progress.update(self._sites, description="final evaluation", note="")


def print_metrics(metrics: RunMetrics) -> None:
    """Print the main metrics on stdout: all sites together, then site by site; metrics.json holds all of them."""
    console = stdout_console()
    table = Table(title=f"{metrics.split} metrics", title_justify="left", box=SIMPLE)
    table.add_column("metric", no_wrap=True)
    table.add_column("all sites", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("subjects", justify="right")
    for site in metrics.sites:
        table.add_column(site, justify="right", no_wrap=True)
    for name, metric in metrics.pooled.items():
        if metric.value is None or not name.startswith(_MAIN):
            continue
        cells = [_number(values.get(name)) for values in metrics.sites.values()]
        table.add_row(name, _value(metric), _interval(metric), str(metric.n), *cells)
    console.print(table)
    for site, reason in metrics.suppressed.items():
        console.print(f"{site}: no metrics ({reason})", markup=False)


def _headline(metrics: Mapping[str, MetricValue]) -> str:
    for wanted in _HEADLINES:
        for name, metric in metrics.items():
            if name.startswith(wanted) and metric.value is not None:
                return f"{name} {metric.value:.3f}"
    return ""


def stdout_console() -> Console:
    """Return a console that does not cut tables when the output goes into a file."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def _value(metric: MetricValue) -> str:
    text = "-" if metric.value is None else f"{metric.value:.3f}"
    return f"{text} ±{metric.error_bound:.1g}" if metric.error_bound else text


def _interval(metric: MetricValue) -> str:
    if metric.ci_low is None or metric.ci_high is None:
        return "-"
    return f"{metric.ci_low:.3f} to {metric.ci_high:.3f}"


def _number(metric: MetricValue | None) -> str:
    return "-" if metric is None or metric.value is None else f"{metric.value:.3f}"


def print_comparison(comparison: Comparison) -> None:
    """Print one row per model and seed, and the mean over seeds where there are several."""
    console = stdout_console()
    names = _compared(comparison)
    table = Table(title=f"{comparison.config}: test metrics, all sites", title_justify="left", box=SIMPLE)
    table.add_column("model", no_wrap=True)
    table.add_column("seed", justify="right")
    for name in names:
        table.add_column(name)
    for model in comparison.models:
        table.add_row(model.name, str(model.seed), *(_cell(model.metrics, name) for name in names))
    kinds = list(dict.fromkeys(model.name for model in comparison.models))
    if len({model.seed for model in comparison.models}) > 1:
        table.add_section()
        for kind in kinds:
            rows = [model.metrics for model in comparison.models if model.name == kind]
            table.add_row(kind, "mean", *(_mean(rows, name) for name in names))
    console.print(table)


def _compared(comparison: Comparison) -> list[str]:
    every = list(dict.fromkeys(name for model in comparison.models for name in model.metrics.pooled))
    return [name for name in every if name.startswith(_COMPARED)][:4]


def _cell(metrics: RunMetrics, name: str) -> str:
    metric = metrics.pooled.get(name)
    return "-" if metric is None else f"{_value(metric)} ({_interval(metric)})"


def _mean(rows: list[RunMetrics], name: str) -> str:
    values = [value for row in rows if name in row.pooled and (value := row.pooled[name].value) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"
