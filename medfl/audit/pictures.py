"""Small pictures in a report: what an attacker rebuilt, beside what it should be."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfl.errors import ShapeError
from medfl.results.metrics import ResultModel

_LEAST_SIDE = 128


class Picture(ResultModel):
    """Panels side by side.

    Attributes
    ----------
    name : str
    caption : str
        One sentence; what the panels show, and how they were chosen.
    panels : tuple of (str, str)
        Label, and an 8-bit gray PNG as base64.
    """

    name: str
    caption: str
    panels: tuple[tuple[str, str], ...]


def picture_of(
    name: str, caption: str, panels: Sequence[tuple[str, NDArray[np.floating]]], data_range: tuple[float, float]
) -> Picture:
    """Draw images of one channel, all on one gray scale.

    Pixels are repeated a whole number of times until the longer side is at least 128, so nothing is smoothed.

    Parameters
    ----------
    name, caption : str
    panels : sequence of (str, ndarray of shape (H, W) or (D, H, W))
        Label and image; of a volume the middle slice of the last axis is shown.
    data_range : (float, float)
        Values that become black and white; what lies outside is clipped.

    Returns
    -------
    Picture

    Raises
    ------
    ShapeError
        If there is no panel, an image has another shape or values that are not finite, or the range is not one.
    """
    low, high = data_range
    if not panels or not np.isfinite([low, high]).all() or not low < high:
        raise ShapeError(
            f"a picture needs at least one panel and a range from low to high, got {len(panels)} and {data_range}."
        )
    return Picture(
        name=name, caption=caption, panels=tuple((label, _png(_slice(image), low, high)) for label, image in panels)
    )


def _slice(image: NDArray[np.floating]) -> NDArray[np.floating]:
    if image.ndim not in (2, 3) or not image.size or not np.isfinite(image).all():
        raise ShapeError(f"a panel must be a finite image of shape (H, W) or (D, H, W), found {image.shape}.")
    return image if image.ndim == 2 else image[..., image.shape[-1] // 2]


def _png(image: NDArray[np.floating], low: float, high: float) -> str:
    shares = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    factor = -(-_LEAST_SIDE // max(image.shape))
    pixels = np.round(255 * shares).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")
