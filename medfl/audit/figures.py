"""Figures of a report as self-contained SVG, each with words for who cannot see it."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfl.audit.label_places import place_labels
from medfl.errors import AuditError
from medfl.results.attack import AttackResult, Knowledge
from medfl.results.report import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_BLUE, _GREY, _BLACK = "#0072b2", "#767676", "#1a1a1a"
_LINES = (
    ("#0072b2", "-"),
    ("#d55e00", "--"),
    ("#117733", "-."),
    ("#882255", ":"),
    ("#1a1a1a", (0, (6, 1, 1, 1, 1, 1))),
)
_STYLE: Mapping[Knowledge, tuple[str, str]] = {
    "naive": ("#5a5a5a", "o"),
    "transferred": ("#882255", "s"),
    "re-trained": ("#0072b2", "D"),
    "anchored": ("#d55e00", "^"),
    "key": ("#1a1a1a", "v"),
    "model": ("#117733", "P"),
    "update": ("#aa4499", "X"),
    "sums": ("#7a6000", "h"),
}
"""Color and marker of what an attacker knows, after Okabe and Ito and Tol: told apart by everybody, and in print."""
_WIDTH = 7.0  # inches of an A4 page between its margins
_HIGHEST = 9.6
_LABEL = 46
_METRICS = {"auc": "area under the curve (AUC)", "rank_1": "share named correctly at once (rank 1)"}


@dataclass(frozen=True)
class Figure:
    """A drawing, and what it shows in one sentence."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Row:
    """One attack to be drawn.

    Attributes
    ----------
    attack : AttackResult
    is_headline : bool
        An answer rests on it.
    limit : float or None
        The margin, where it has one.
    """

    attack: AttackResult
    is_headline: bool = False
    limit: float | None = None


@dataclass(frozen=True)
class Point:
    """A protection: what it leaves to an attacker (x), and how well the task is done (y), each with its interval."""

    label: str
    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float


def intervals_figure(rows: Sequence[Row], metric: str = "auc") -> Figure:
    """Draw every attack with its interval, family by family, against guessing and against its margin.

    Parameters
    ----------
    rows : sequence of Row
        Those of another metric are left out.
    metric : str
        "auc" or "rank_1".

    Raises
    ------
    AuditError
        If the extra `report` is not installed.
    """
    shown = [row for row in rows if row.attack.metric == metric]
    lines: list[str | Row] = []
    for family in dict.fromkeys(row.attack.family for row in shown):
        lines += [family, *(row for row in shown if row.attack.family == family)]
    labels = [line if isinstance(line, str) else _wrapped(_label(line.attack)) for line in lines]
    places = _places(labels)
    top = -places[-1] if places else 1.0
    canvas = _canvas(_WIDTH, min(_HIGHEST, 1.3 + 0.19 * (top + 1)))
    axes = canvas.subplots()
    for line, place in zip(lines, places, strict=True):
        if isinstance(line, Row):
            _draw_row(axes, line, place)
        else:
            axes.axhline(place + 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_yticks(places, labels, fontsize=7)
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if isinstance(line, str) else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-top - 0.8, 0.7)
    guess = 0.5 if metric == "auc" else 0.0
    axes.axvline(guess, color=_GREY, linestyle=":", linewidth=1, zorder=0)
    axes.set_xlim(min([guess - (0.1 if metric == "auc" else 0.02), *(row.attack.ci_low for row in shown)]), 1.02)
    axes.set_xlabel(_METRICS.get(metric, metric) + ("; 0.5 is guessing" if metric == "auc" else ""), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    _bare(axes)
    known = [one for one in _STYLE if any(row.attack.knowledge == one for row in shown)]
    canvas.legend(handles=_keys(known), loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    return Figure(
        _svg(canvas, f"intervals {metric}"), _alt_of_rows([line for line in lines if isinstance(line, Row)], metric)
    )


def roc_figure(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw true against false positive rate, the latter on a log axis, where few false alarms matter."""
    return _curves(
        curves, "false positive rate", "true positive rate", "Receiver operating characteristic", diagonal=True
    )


def cmc_figure(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw how often the right subject is among the first k of the gallery."""
    return _curves(curves, "rank k in the gallery", "share found among the first k", "Cumulative match characteristic")


def anchors_figure(curves: Sequence[Curve]) -> Figure:
    """Draw what attackers find against the number of images they know, on a log axis; one panel for each metric.

    Parameters
    ----------
    curves : sequence of Curve
        At least one, all of kind "anchors".

    Raises
    ------
    AuditError
        If there is no curve, or the extra `report` is not installed.
    """
    if not curves or any(curve.kind != "anchors" for curve in curves):
        raise AuditError("A figure of known images needs curves of kind 'anchors'; found none, or others.")
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    canvas = _canvas(_WIDTH if len(metrics) > 1 else 4.6, 3.6)
    panels = canvas.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        own = [curve for curve in curves if curve.metric == metric]
        for number, curve in enumerate(own):
            color, style = _LINES[number % len(_LINES)]
            label = _wrapped(_plain(curve.name), 34)
            panel.plot(curve.x, curve.y, color=color, linestyle=style, marker="o", markersize=4, label=label)
            if curve.y_low:
                panel.fill_between(curve.x, curve.y_low, curve.y_high, color=color, alpha=0.15, linewidth=0)
        if metric == "auc":
            panel.axhline(0.5, color=_GREY, linestyle=":", linewidth=1, zorder=0, label="guessing")
        known = sorted({x for curve in own for x in curve.x})
        panel.set_xscale("log")
        panel.set_xticks(known, [f"{x:g}" for x in known])
        panel.minorticks_off()
        panel.set_ylim(min([-0.02, *(y for curve in own for y in curve.y)]), 1.02)
        panel.set_xlabel("images the attacker knows", fontsize=8)
        panel.set_ylabel(_plain(_METRICS.get(metric, metric)), fontsize=8)
        panel.tick_params(labelsize=8)
        panel.legend(fontsize=7, frameon=False)
        _bare(panel)
    said = "; ".join(f"{curve.name} ({curve.metric}): {_said_points(curve)}" for curve in curves)
    return Figure(_svg(canvas, "anchors"), f"What attackers find against the number of images they know. {said}.")


def utility_figure(points: Sequence[Point], leakage: str, utility: str, limit: float | None = None) -> Figure:
    """Draw how well the task is done against what an attacker finds; up and to the left is better.

    Parameters
    ----------
    points : sequence of Point
        At least one.
    leakage, utility : str
        What x and y are.
    limit : float or None
        The margin of x.

    Raises
    ------
    AuditError
        If there is no point, or the extra `report` is not installed.
    """
    if not points:
        raise AuditError("A figure of utility against leakage needs at least one arm that was attacked; there is none.")
    canvas = _canvas(_WIDTH, 4.8)
    axes = canvas.subplots()
    for number, point in enumerate(points):
        color = _LINES[number % len(_LINES)][0]
        marker = "oDs^vPXh"[number % 8]
        axes.plot([point.x_low, point.x_high], [point.y, point.y], color=color, linewidth=1, alpha=0.6)
        axes.plot([point.x, point.x], [point.y_low, point.y_high], color=color, linewidth=1, alpha=0.6)
        axes.plot([point.x], [point.y], marker, color=color, markersize=6)
    if limit is not None:
        axes.axvline(limit, color=_BLACK, linewidth=1.5, zorder=0, label=f"margin {limit:g}")
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.margins(0.08)
    axes.set_xlabel(f"{_plain(leakage)}: less is better", fontsize=9)
    axes.set_ylabel(f"{_plain(utility)}: more is better", fontsize=9)
    axes.tick_params(labelsize=8)
    _bare(axes)
    crosses = [((p.x_low, p.y), (p.x_high, p.y)) for p in points] + [((p.x, p.y_low), (p.x, p.y_high)) for p in points]
    if limit is not None:
        crosses.append(((limit, axes.get_ylim()[0]), (limit, axes.get_ylim()[1])))
    place_labels(axes, [(_plain(point.label), point.x, point.y) for point in points], crosses)
    said = "; ".join(
        f"{p.label}: {utility} {_interval(p.y, p.y_low, p.y_high)}, {leakage} {_interval(p.x, p.x_low, p.x_high)}"
        for p in points
    )
    margin = "" if limit is None else f" The margin is {limit:g}."
    return Figure(_svg(canvas, "utility"), f"Utility against leakage, with 95 % intervals. {said}.{margin}")


def _places(labels: Sequence[str]) -> list[float]:
    """Return heights from 0 downwards; a label of two lines takes more room."""
    places: list[float] = []
    bottom = 0.5
    for label in labels:
        room = 1 + 0.7 * label.count("\n")
        places.append(bottom - room / 2)
        bottom -= room
    return places


def _draw_row(axes: "Axes", row: Row, place: float) -> None:
    one = row.attack
    color, marker = _STYLE[one.knowledge]
    axes.plot([one.ci_low, one.ci_high], [place, place], color=color, linewidth=1.5)
    axes.plot([one.chance, one.chance], [place - 0.3, place + 0.3], color=_GREY, linewidth=1, zorder=1)
    if row.limit is not None:
        axes.plot([row.limit, row.limit], [place - 0.45, place + 0.45], color=_BLACK, linewidth=2, zorder=1)
    face = color if row.is_headline else "white"
    axes.plot([one.value], [place], marker, color=color, markerfacecolor=face, markersize=5, zorder=3)


def _keys(known: Sequence[Knowledge]) -> list[object]:
    """Return the entries of the legend: what the attacker knows, then what the marks mean."""
    from matplotlib.lines import Line2D

    found: list[object] = [
        Line2D([], [], color=_STYLE[one][0], marker=_STYLE[one][1], markersize=5, label=one) for one in known
    ]
    marks = (("filled: headline", _BLACK), ("open: other", "white"))
    found += [
        Line2D([], [], color=_BLACK, marker="o", markerfacecolor=face, linestyle="none", markersize=5, label=label)
        for label, face in marks
    ]
    for label, color, width in (("margin", _BLACK, 2.0), ("guessing or baseline", _GREY, 1.0)):
        found.append(
            Line2D([], [], color=color, marker="|", linestyle="none", markersize=9, markeredgewidth=width, label=label)
        )
    return found


def _alt_of_rows(shown: Sequence[Row], metric: str) -> str:
    said = "; ".join(
        f"{row.attack.family}: {_name(row.attack)}, {row.attack.knowledge}: "
        f"{_interval(row.attack.value, row.attack.ci_low, row.attack.ci_high)}"
        + ("" if row.limit is None else f", headline, margin {row.limit:.2f}")
        for row in shown
    )
    return f"{_METRICS.get(metric, metric)} of every attack with its 95 % interval. {said}."


def _curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    horizontal: str,
    vertical: str,
    title: str,
    *,
    diagonal: bool = False,
) -> Figure:
    canvas = _canvas(4.6, 3.4)
    axes = canvas.subplots()
    guesses: dict[tuple[float, ...], Sequence[float]] = {}
    for number, (name, (x, y)) in enumerate(curves.items()):
        color, style = _LINES[number % len(_LINES)]
        axes.plot(x, y, color=color, linestyle=style, linewidth=2, label=_wrapped(_plain(name), 40))
        guesses[tuple(x)] = x if diagonal else [value / max(x) for value in x]
    for number, (at, line) in enumerate(guesses.items()):
        label = "_" if number else "guessing"
        axes.plot(at, line, color=_GREY, linestyle=(0, (1, 2)), linewidth=1, label=label)
    axes.set_xscale("log")
    if not diagonal:
        highest = max(x[-1] for x, _ in curves.values())
        ranks = [step * 10**power for power in range(6) for step in (1, 2, 5) if step * 10**power <= highest]
        axes.set_xticks(ranks, [str(rank) for rank in ranks])
        axes.minorticks_off()
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(horizontal, fontsize=9)
    axes.set_ylabel(vertical, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8)
    _bare(axes)
    return Figure(
        _svg(canvas, title), f"{title} of {', '.join(curves)}: {vertical} against {horizontal} on a log axis."
    )


def _said_points(curve: Curve) -> str:
    return ", ".join(f"{y:.2f} with {x:g}" for x, y in zip(curve.x, curve.y, strict=True))


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _name(one: AttackResult) -> str:
    return one.name + (f", {one.setting}" if one.setting else "")


def _label(one: AttackResult) -> str:
    return _plain(_name(one))


def _plain(text: str) -> str:
    return text.replace("$", "\\$")  # else it would be read as a formula


def _wrapped(text: str, width: int = _LABEL) -> str:
    return textwrap.fill(text, width)


def _bare(axes: "Axes") -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _canvas(width: float, height: float) -> "Canvas":
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise AuditError("Drawing a figure needs: pip install 'medfl[report]'") from error
    return Canvas(figsize=(width, height), layout="constrained")


def _svg(canvas: "Canvas", salt: str) -> str:
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": f"medfl {salt}", "svg.fonttype": "path"}):
        canvas.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
