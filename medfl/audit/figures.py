"""Figures of a report as self-contained SVG, each with words for who cannot see it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medfl.results.attack import AttackResult

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#666666"  # Okabe and Ito: told apart by everybody


@dataclass(frozen=True)
class Figure:
    """A drawing, and what it shows in one sentence."""

    svg: str
    alt: str


def intervals_figure(attacks: Sequence[AttackResult]) -> Figure:
    """Draw every area under the curve with its interval; the dashed line is guessing."""
    from matplotlib.figure import Figure as Canvas

    shown = [one for one in attacks if one.metric == "auc"]
    canvas = Canvas(figsize=(7, 1 + 0.3 * max(1, len(shown))), layout="constrained")
    axes = canvas.subplots()
    for place, one in enumerate(reversed(shown)):
        axes.plot([one.ci_low, one.ci_high], [place, place], color=_BLUE, linewidth=2)
        axes.plot([one.value], [place], "o", color=_BLUE)
        axes.plot([one.chance], [place], "|", color=_ORANGE, markersize=12)
    axes.set_yticks(range(len(shown)), [_label(one) for one in reversed(shown)], fontsize=8)
    axes.axvline(0.5, color=_GREY, linestyle="--", linewidth=1)
    axes.set_xlim(min([0.3, *(one.ci_low for one in shown)]), 1.0)
    axes.set_xlabel("area under the curve; 0.5 is guessing")
    alt = "Area under the curve of every attack with its 95 % interval. " + "; ".join(
        f"{_label(one)}: {one.value:.2f}" for one in shown
    )
    return Figure(_svg(canvas, "intervals"), alt)


def roc_figure(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw true against false positive rate, the latter on a log axis, where few false alarms matter."""
    return _curves(
        curves, "false positive rate", "true positive rate", "Receiver operating characteristic", diagonal=True
    )


def cmc_figure(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw how often the right subject is among the first k of the gallery."""
    return _curves(curves, "rank k in the gallery", "share found among the first k", "Cumulative match characteristic")


def _curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    horizontal: str,
    vertical: str,
    title: str,
    *,
    diagonal: bool = False,
) -> Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(4.6, 3.4), layout="constrained")
    axes = canvas.subplots()
    for name, (x, y) in curves.items():
        axes.plot(x, y, color=_BLUE, linewidth=2, label=name.replace("$", "\\$"))
        line = list(x) if diagonal else [value / max(x) for value in x]
        axes.plot(x, line, color=_GREY, linestyle="--", linewidth=1, label="guessing")
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.legend(frameon=False, fontsize=8)
    return Figure(
        _svg(canvas, title), f"{title} of {', '.join(curves)}: {vertical} against {horizontal} on a log axis."
    )


def _label(one: AttackResult) -> str:
    text = f"{one.name}, {one.knowledge}" + (f", {one.setting}" if one.setting else "")
    return text.replace("$", "\\$")  # else it would be read as a formula


def _svg(canvas: object, salt: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    assert isinstance(canvas, Canvas)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": f"medfl {salt}", "svg.fonttype": "path"}):
        canvas.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
