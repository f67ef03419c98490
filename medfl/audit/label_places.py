"""Where the names of points go in a figure, so that none hides another."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

Place = tuple[float, float]

_RADII = (7, 14, 24, 36, 50, 66)  # in points of 1/72 inch
_DIRECTIONS = 12
_MARKER = 5
_NEAR = 14


def place_labels(
    axes: "Axes", labels: Sequence[tuple[str, float, float]], lines: Sequence[tuple[Place, Place]], *, size: float = 8
) -> None:
    """Write each label beside its point, as near as it can be without touching a point, a line, a label or the frame.

    Call it when everything else is drawn. A label far from its point is tied to it by a thin line; one for which there
    is no free place goes to the nearest.

    Parameters
    ----------
    axes : Axes
    labels : sequence of (str, float, float)
        Text, and the point it belongs to.
    lines : sequence of ((float, float), (float, float))
        Ends of level or upright lines that labels keep off.
    size : float
        Of the letters, in points.
    """
    from matplotlib.transforms import Bbox

    figure = axes.figure.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    spots = [tuple(map(float, axes.transData.transform((x, y)))) for _, x, y in labels]
    half = _MARKER * pixels
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in spots]
    for ends in lines:
        (x0, y0), (x1, y1) = (axes.transData.transform(end) for end in ends)
        taken.append(Bbox.from_extents(min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1))
    frame = axes.get_window_extent()
    for (text, x, y), (left, bottom) in zip(labels, spots, strict=True):
        written = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=size)
        size_of = written.get_window_extent()
        written.remove()
        wide, high = size_of.width, size_of.height
        options = [
            (radius, move, Bbox.from_bounds(left + move[0] * pixels, bottom + move[1] * pixels, wide, high))
            for radius, move in _moves(wide / pixels, high / pixels)
        ]
        free = [one for one in options if _inside(one[2], frame) and not any(one[2].overlaps(box) for box in taken)]
        radius, move, box = (free or options)[0]
        tie = {"arrowstyle": "-", "color": "#767676", "linewidth": 0.6} if radius > _NEAR else None
        axes.annotate(text, (x, y), move, textcoords="offset points", fontsize=size, arrowprops=tie)
        taken.append(box)


def _moves(width: float, height: float) -> Iterator[tuple[int, tuple[float, float]]]:
    """Return offsets of a label's lower left corner, nearest first, up and to the right before anywhere else."""
    for radius in _RADII:
        for turn in range(_DIRECTIONS):
            angle = 2 * math.pi * (turn + 1) / _DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            yield radius, (radius * across + width * (across - 1) / 2, radius * up + height * (up - 1) / 2)


def _inside(box: "Bbox", frame: "Bbox") -> bool:
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
