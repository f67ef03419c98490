"""Figures as Vega-Lite: few marks, words on the axes, colours that stay apart for every kind of colour vision."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.dashboard.theme import BLUE, GRAY, ORANGE, SERIES, VERMILION
from medfl.evaluation.reliability import ReliabilityBin

Figure = dict[str, Any]
Rows = Sequence[Mapping[str, object]]

_ROW = 34
_AXIS = 70
_HEIGHT = 260
_FREE = {"zero": False}
_DATES = {"format": "%Y-%m-%d %H:%M", "tickCount": 4, "labelOverlap": True}


@dataclass(frozen=True)
class Bar:
    """A value with its interval.

    Attributes
    ----------
    name : str
    value, low, high : float
    strong : bool
        Whether it is the one to look at.
    """

    name: str
    value: float
    low: float
    high: float
    strong: bool = False


def intervals(bars: Sequence[Bar], title: str) -> Figure:
    """Return values with their intervals, one below the other; the strong one is a square, the others are dots."""
    across = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 260}}
    colour = _strong(BLUE, GRAY)
    rule = {
        "mark": {"type": "rule", "strokeWidth": 3},
        "encoding": {"x": _number("low", title), "x2": {"field": "high"}, "color": colour},
    }
    point = {
        "mark": {"type": "point", "filled": True, "size": 120, "opacity": 1},
        "encoding": {"x": _number("value", title), "shape": _strong("square", "circle"), "color": colour},
    }
    tooltip = [_told("name"), *(_told(name, ".3f") for name in ("value", "low", "high"))]
    figure = _figure([asdict(bar) for bar in bars], [rule, point], {"y": across, "tooltip": tooltip})
    return figure | {"height": _ROW * max(1, len(bars)) + _AXIS}


def reliability(bars: Sequence[ReliabilityBin], said: str, happened: str) -> Figure:
    """Return the reliability diagram: a model that knows what it knows lies on the diagonal."""
    rows = [
        {"x": bar.mean_confidence, "y": bar.accuracy, "studies": bar.studies, "low": bar.low, "high": bar.high}
        for bar in bars
    ]
    whole = {"scale": {"domain": [0, 1]}}
    axes = {"x": _number("x", said) | whole, "y": _number("y", happened) | whole}
    ideal = {
        "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
        "mark": {"type": "line", "color": GRAY, "strokeDash": [5, 4]},
        "encoding": axes,
    }
    found = {
        "mark": {"type": "line", "color": BLUE, "point": {"filled": True, "size": 90, "color": BLUE}},
        "encoding": axes | {"tooltip": [_told(name, ".2f") for name in ("x", "y", "low", "high")] + [_told("studies")]},
    }
    return _figure(rows, [ideal, found], {})


def scatter(rows: Rows, x: str, y: str, titles: tuple[str, str], *, limit: float | None = None) -> Figure:
    """Return points; those that are "strong" are squares of another colour.

    Parameters
    ----------
    rows : sequence of mapping
        With `x`, `y`, "name" and "strong".
    x, y : str
        Names of the numbers.
    titles : (str, str)
        Of the axes.
    limit : float, optional
        A margin on the axis x, drawn as a dashed line.
    """
    points = {
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0.85},
        "encoding": {
            "x": _number(x, titles[0]),
            "y": _number(y, titles[1]),
            "color": _strong(VERMILION, BLUE),
            "shape": _strong("square", "circle"),
            "tooltip": [_told("name"), _told(x, ".3f"), _told(y, ".3f")],
        },
    }
    return _figure(rows, [points, *([] if limit is None else [_margin("x", limit)])], {})


def lines(rows: Rows, titles: tuple[str, str]) -> Figure:
    """Return one line per "name" over the count "x", told apart by colour and dashes.

    Parameters
    ----------
    rows : sequence of mapping
        With "x", "y" and "name".
    titles : (str, str)
        Of the axes.
    """
    along = _number("x", titles[0]) | {"axis": {"format": "d", "tickMinStep": 1}}
    return _figure(rows, [_line(rows, "linear")], {"x": along, "y": _number("y", titles[1])})


def over_time(rows: Rows, titles: tuple[str, str], *, limit: float | None = None) -> Figure:
    """Return one stair per "name" over the times "x"; a limit is a dashed line.

    Parameters
    ----------
    rows : sequence of mapping
        With "x" (ISO 8601), "y" and "name".
    titles : (str, str)
        Of the axes.
    limit : float, optional
    """
    axes = {
        "x": {"field": "x", "type": "temporal", "title": titles[0], "axis": _DATES},
        "y": {"field": "y", "type": "quantitative", "title": titles[1]},
    }
    stairs = _line(rows, "step-after")
    stairs["encoding"] = axes | stairs["encoding"]
    return _figure(rows, [stairs, *([] if limit is None else [_margin("y", limit)])], {})


def _figure(rows: Rows, layers: Sequence[Figure], encoding: Figure) -> Figure:
    return {"data": {"values": list(rows)}, "layer": list(layers), "encoding": encoding, "height": _HEIGHT}


def _line(rows: Rows, interpolate: str) -> Figure:
    names = list(dict.fromkeys(str(row["name"]) for row in rows))
    colours = [SERIES[place % len(SERIES)] for place in range(len(names))]
    named = {
        "field": "name",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "bottom"} if len(names) > 1 else None,
    }
    return {
        "mark": {"type": "line", "interpolate": interpolate, "point": {"filled": True, "size": 45}},
        "encoding": {
            "color": named | {"scale": {"domain": names, "range": colours}},
            "strokeDash": named | {"scale": {"domain": names}},
            "tooltip": [_told("name"), _told("x"), _told("y", ".4f")],
        },
    }


def _margin(axis: str, value: float) -> Figure:
    return {
        "data": {"values": [{"margin": value}]},
        "mark": {"type": "rule", "color": ORANGE, "strokeDash": [6, 4], "strokeWidth": 2},
        "encoding": {axis: {"field": "margin", "type": "quantitative"}},
    }


def _number(field: str, title: str) -> Figure:
    return {"field": field, "type": "quantitative", "title": title, "scale": _FREE}


def _told(field: str, form: str = "") -> Figure:
    return {"field": field} | ({"format": form, "type": "quantitative"} if form else {})


def _strong(yes: str, no: str) -> Figure:
    return {"condition": {"test": "datum.strong", "value": yes}, "value": no}
