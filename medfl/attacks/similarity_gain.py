"""What a rebuilt image is worth beside the attacker's mean image, over many subjects."""

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.attributes import percentiles
from medfl.results.attack import Measure

_Floats = NDArray[np.float64]
_LEAST_PRIOR = 0.05


def similarity_gain(found: _Floats, prior: _Floats) -> _Floats:
    """Return RDLV (Hatamizadeh et al. 2022) of means: ``(found - prior) / prior``, the divisor at least 0.05.

    Parameters
    ----------
    found, prior : ndarray of one shape
        Mean SSIM of reconstructions, and of the attacker's mean image, with the originals.

    Returns
    -------
    ndarray of that shape
    """
    return np.asarray((found - prior) / np.maximum(prior, _LEAST_PRIOR))


def similarity_measure(label: str, value: float, resampled: _Floats) -> Measure:
    """Return a mean similarity with its interval, or without a value where an image was reproduced exactly.

    Parameters
    ----------
    label : str
    value : float
    resampled : ndarray of shape (draws,)
        The same over resampled subjects.
    """
    if not np.isfinite(value):
        return Measure(name=label, value=None, note="an image was reproduced exactly, which has no finite PSNR")
    low, high = percentiles(resampled)
    return Measure(name=label, value=float(value), ci_low=low, ci_high=high)
