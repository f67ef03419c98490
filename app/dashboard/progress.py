"""How far a run is, and what its rounds say about the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from app.dashboard.comparison import key_metric
from medfl.results.history import History, RoundRecord

_RECENT = 5


@dataclass(frozen=True)
class Progress:
    """Rounds done and to come.

    Attributes
    ----------
    done, planned : int
        `planned` is 0 where the settings cannot be read.
    skipped : int
        Rounds that left the model as it was.
    seconds_left : float or None
        Rounds to come at the median of the last five; None before the first and after the last.
    """

    done: int
    planned: int
    skipped: int
    seconds_left: float | None


@dataclass(frozen=True)
class SiteTotals:
    """One site over all rounds.

    Attributes
    ----------
    site : str
    used, refused : int
        Rounds in which its reply was used, or not.
    reasons : tuple of str
        Codes of refusals, each once.
    subjects : int
        In the last round.
    bytes_up, bytes_down : int
    seconds : float
        Median of a round.
    loss : float or None
        The last one.
    """

    site: str
    used: int
    refused: int
    reasons: tuple[str, ...]
    subjects: int
    bytes_up: int
    bytes_down: int
    seconds: float
    loss: float | None


def progress_of(history: History, planned: int) -> Progress:
    """Return how far a run is.

    Parameters
    ----------
    history : History
    planned : int
        Rounds in the settings, or 0.
    """
    done = history.rounds[-1].number if history.rounds else 0
    left = max(0, planned - done)
    recent = [record.seconds for record in history.rounds[-_RECENT:]]
    seconds = median(recent) * left if recent and left else None
    return Progress(done, planned, sum(bool(record.skipped) for record in history.rounds), seconds)


def totals_of(history: History) -> list[SiteTotals]:
    """Return every site over all rounds, sorted by name."""
    sites = sorted({part.site for record in history.rounds for part in record.sites})
    return [_totals(site, history.rounds) for site in sites]


def losses_of(history: History) -> list[dict[str, object]]:
    """Return training losses as rows "x", "y", "name"."""
    return [
        {"x": record.number, "y": part.loss, "name": part.site}
        for record in history.rounds
        for part in record.sites
        if part.loss is not None
    ]


def validation_of(history: History) -> tuple[str, list[dict[str, object]]]:
    """Return the metric that speaks for the run, and its values as rows "x", "y", "name"."""
    measured = [record for record in history.rounds if record.metrics]
    name = key_metric(measured[-1].metrics) if measured else None
    if name is None:
        return "", []
    rows: list[dict[str, object]] = [
        {"x": record.number, "y": record.metrics[name].value, "name": name}
        for record in measured
        if name in record.metrics and record.metrics[name].value is not None
    ]
    return name, rows


def _totals(site: str, rounds: Sequence[RoundRecord]) -> SiteTotals:
    parts = [part for record in rounds for part in record.sites if part.site == site]
    refused = [part for part in parts if part.refused]
    losses = [part.loss for part in parts if part.loss is not None]
    return SiteTotals(
        site,
        len(parts) - len(refused),
        len(refused),
        tuple(dict.fromkeys(part.refused for part in refused)),
        parts[-1].subjects,
        sum(part.bytes_up for part in parts),
        sum(part.bytes_down for part in parts),
        median(part.seconds for part in parts),
        losses[-1] if losses else None,
    )
