"""Where the slices of a series lie in the patient."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ImageReadError

#: A step between neighboring slices may differ from the typical one by this share of it.
_STEP_TOLERANCE = 0.02
#: Axes may deviate from unit length and from a right angle by this much.
_AXIS_TOLERANCE = 1e-3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in geometric order.

    Attributes
    ----------
    order : ndarray of int of shape (n_slices,)
        Index of the slice that comes at each place.
    affine : ndarray of shape (4, 4)
        Maps (column, row, place in the order, 1) to RAS+ millimeters.
    """

    order: NDArray[np.intp]
    affine: NDArray[np.float64]


def check_orientation(orientation: NDArray[np.float64]) -> None:
    """Refuse directions that are not two unit vectors at a right angle.

    Parameters
    ----------
    orientation : ndarray of shape (2, 3)
        Directions in which the columns and the rows count up.

    Raises
    ------
    ImageReadError
        With reason ``"bad_orientation"``.
    """
    if np.abs(orientation @ orientation.T - np.eye(2)).max() > _AXIS_TOLERANCE:
        raise ImageReadError("bad_orientation", "ImageOrientationPatient must be two unit vectors at a right angle.")


def check_spacing(spacing: NDArray[np.float64]) -> None:
    """Refuse spacings that are not positive and plausible.

    Raises
    ------
    ImageReadError
        With reason ``"bad_spacing"``.
    """
    if not ((spacing > 1e-6).all() and (spacing < 1e4).all()):
        raise ImageReadError("bad_spacing", "Spacings must lie between 1e-6 and 1e4 mm; they do not.")


def stack_slices(
    positions: NDArray[np.float64], orientation: NDArray[np.float64], spacing: NDArray[np.float64], lone_step_mm: float
) -> Stack:
    """Sort slices along their normal, check that they are evenly spaced, and return the affine.

    Parameters
    ----------
    positions : ndarray of shape (n_slices, 3)
        Centers of the first pixels, in LPS millimeters.
    orientation : ndarray of shape (2, 3)
        Directions in which the columns and the rows count up (DICOM PS3.3 C.7.6.2.1.1).
    spacing : ndarray of shape (2,)
        Between rows and between columns, in millimeters.
    lone_step_mm : float
        Extent of a slice that has no neighbor.

    Raises
    ------
    ImageReadError
        With reason ``"bad_orientation"``, ``"bad_spacing"``, ``"duplicate_positions"``, ``"missing_slices"``,
        ``"uneven_spacing"`` or ``"shifted_slices"``.
    """
    check_orientation(orientation)
    check_spacing(spacing)
    normal = np.cross(orientation[0], orientation[1])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    if len(order) == 1:
        check_spacing(np.array([lone_step_mm]))
        step = normal * lone_step_mm
    else:
        _check_steps(np.diff(along[order]))
        step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
        expected = positions[order[0]] + np.arange(len(order))[:, None] * step
        if np.abs(positions[order] - expected).max() > max(0.1, 0.1 * float(spacing.min())):
            raise ImageReadError("shifted_slices", "Slices must lie on a straight line; some are shifted sideways.")
    affine = np.eye(4)
    affine[:3, 0] = orientation[0] * spacing[1]
    affine[:3, 1] = orientation[1] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    return Stack(order, _LPS_TO_RAS @ affine)


def _check_steps(steps: NDArray[np.float64]) -> None:
    """Refuse repeated, missing and unevenly spaced slices."""
    typical = float(np.median(steps))
    if steps.min() < 1e-3 or typical < 1e-3:
        raise ImageReadError(
            "duplicate_positions", "Slices must lie at different places; some share one. Split the series by phase."
        )
    tolerance = max(_STEP_TOLERANCE * typical, 0.01)
    n_uneven = int((np.abs(steps - typical) > tolerance).sum())
    if n_uneven == 0:
        return
    multiples = np.rint(steps / typical)
    if (multiples >= 1).all() and (np.abs(steps - multiples * typical) <= tolerance * multiples).all():
        n_missing = int(multiples.sum()) - len(steps)
        raise ImageReadError("missing_slices", f"Slices must follow one another; {n_missing} are missing.")
    raise ImageReadError("uneven_spacing", f"Slices must be evenly spaced; {n_uneven} step(s) differ from the others.")
