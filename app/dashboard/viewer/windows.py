"""Windows: which values of an image become black and white."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["ct", "mr", "other"]

_LARGEST_SAMPLE = 1 << 20
_AIR_HU = -500.0


@dataclass(frozen=True)
class Window:
    """Values up to `low` are black, values from `high` on are white.

    Attributes
    ----------
    name : str
        A key of the viewer's words, or a name to show as it is.
    low, high : float
        In the image's unit; `low` is smaller.
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty window."""
        if not self.low < self.high:
            raise ValueError(f"A window needs low < high, got {self.low} and {self.high}.")


def centred(name: str, level: float, width: float) -> Window:
    """Return the window around `level`, in the words of radiology: W `width`, L `level`."""
    return Window(name, level - width / 2, level + width / 2)


#: In Hounsfield units, with the widths and levels in common use.
CT_WINDOWS = (
    centred("brain", 40, 80),
    centred("lung", -600, 1500),
    centred("soft_tissue", 40, 400),
    centred("bone", 400, 1800),
)


def guessed_modality(values: NDArray[np.generic]) -> Modality:
    """Return ``"ct"`` where signed values reach down to air as Hounsfield units do, else ``"other"``.

    A guess for images without a DICOM header: at least 1 in 100 sampled values lies below -500.
    """
    if values.dtype.kind == "u":
        return "other"
    return "ct" if float(np.quantile(_sample(values), 0.01)) < _AIR_HU else "other"


def windows_for(values: NDArray[np.generic], modality: Modality) -> tuple[Window, ...]:
    """Return what to offer for an image, the one to begin with first.

    Parameters
    ----------
    values : ndarray of any shape, finite
    modality : {"ct", "mr", "other"}

    Returns
    -------
    tuple of Window
        ``"automatic"`` (1st to 99th percentile), ``"full_range"``, and for CT the presets in Hounsfield units.
    """
    offered = (automatic_window(values), full_range(values))
    return offered + CT_WINDOWS if modality == "ct" else offered


def automatic_window(values: NDArray[np.generic]) -> Window:
    """Return the window from the 1st to the 99th percentile, without a background that fills much of the image.

    Voxels at the lowest value are left out when they are more than one in ten: the air around a head, or the zeros
    around a cropped organ.
    """
    sample = _sample(values)
    above = sample[sample > sample.min()]
    if 0 < above.size < 0.9 * sample.size:
        sample = above
    low, high = (float(value) for value in np.quantile(sample, (0.01, 0.99)))
    return Window("automatic", low, high) if low < high else Window("automatic", *_range(values))


def full_range(values: NDArray[np.generic]) -> Window:
    """Return the window from the lowest to the highest value."""
    return Window("full_range", *_range(values))


def _range(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return the lowest and the highest value, made to differ."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _sample(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return about a million values, evenly spread."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _LARGEST_SAMPLE)].astype(np.float64)
