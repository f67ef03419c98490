"""Training curves as one SVG, readable in light and dark, without a drawing library."""

from collections.abc import Sequence
from html import escape

from medfl.results.history import History

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP, _BOTTOM, _COLUMNS = 760, 330, 64, 34, 24, 78, 2
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}line{stroke:#9996}path{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)
Series = dict[str, list[tuple[int, float]]]


def curves_svg(history: History) -> str:
    """Return training loss per site beside the pooled validation metrics per round.

    Parameters
    ----------
    history : History

    Returns
    -------
    str
        A self-contained SVG document with a title and a description.
    """
    losses: Series = {}
    metrics: Series = {}
    for record in history.rounds:
        for site in record.sites:
            if site.loss is not None:
                losses.setdefault(site.site, []).append((record.number, site.loss))
        for name, metric in record.metrics.items():
            if metric.value is not None and "/" not in name and 0 <= metric.value <= 1:
                metrics.setdefault(name, []).append((record.number, metric.value))
    half = (_WIDTH - _GAP) / 2
    rounds = len(history.rounds)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>Training curves</title><desc>Training loss per site and pooled validation metrics over {rounds} "
        f"rounds.</desc><style>{_STYLE}</style>"
        + _panel("Training loss", losses, rounds, 0.0, half)
        + _panel("Validation, all sites", dict(list(metrics.items())[: len(_COLORS)]), rounds, half + _GAP, half)
        + "</svg>\n"
    )


def _panel(title: str, series: Series, rounds: int, x: float, width: float) -> str:
    values = [value for points in series.values() for _, value in points]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1.0
    inner_width, inner_height = width - _LEFT - 10, _HEIGHT - _TOP - _BOTTOM
    parts = [f'<text x="{x + _LEFT:.0f}" y="18" font-weight="600">{escape(title)}</text>']
    for tick in (low, (low + high) / 2, high):
        y = _TOP + inner_height * (1 - (tick - low) / (high - low))
        parts.append(
            f'<line x1="{x + _LEFT:.1f}" x2="{x + width - 10:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{x + _LEFT - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        )
    for position, (name, points) in enumerate(series.items()):
        color = _COLORS[position % len(_COLORS)]
        drawn = [
            (
                x + _LEFT + inner_width * (number - 1) / max(1, rounds - 1),
                _TOP + inner_height * (1 - (value - low) / (high - low)),
            )
            for number, value in points
        ]
        parts.append(_line(drawn, color))
        parts.append(
            f'<text x="{x + _LEFT + (position % _COLUMNS) * inner_width / _COLUMNS:.1f}" '
            f'y="{_HEIGHT - 38 + 16 * (position // _COLUMNS):.1f}" style="fill:{color}">{escape(name)}</text>'
        )
    for anchor, place, number in (("start", 0.0, 1), ("end", inner_width, rounds)):
        where = f'x="{x + _LEFT + place:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="{anchor}"'
        parts.append(f"<text {where}>round {number}</text>")
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], color: str) -> str:
    steps = " ".join(f"{'M' if index == 0 else 'L'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points)
    return f'<path d="{steps}" stroke="{color}"/>{dots}'
