"""Every reply is looked at before it may change anything."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ReplyError

_MAX_NAMES = 3


def check_arrays(arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> None:
    """Check names, shapes, dtypes and that every number is finite.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What a site sent.
    expected : mapping of str to ndarray
        The same names with the right shapes and dtypes; values do not matter.

    Raises
    ------
    ReplyError
        With reason "names", "shape", "dtype" or "not_finite".
    """
    missing, unknown = expected.keys() - arrays.keys(), arrays.keys() - expected.keys()
    if missing or unknown:
        raise ReplyError(
            "names",
            f"arrays must be the {len(expected)} asked for; missing {_some(missing)}, unknown: {len(unknown)}",
        )
    for name, array in arrays.items():
        if array.shape != expected[name].shape:
            raise ReplyError("shape", f"{name} must have shape {expected[name].shape}, found {array.shape}")
        if array.dtype != expected[name].dtype:
            raise ReplyError("dtype", f"{name} must have dtype {expected[name].dtype}, found {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ReplyError("not_finite", f"{name} must hold finite numbers only")


def check_count(name: str, value: Any, *, highest: int, lowest: int = 1) -> int:
    """Return a count a site reports about itself.

    Raises
    ------
    ReplyError
        With reason "count" if it is not a whole number in [lowest, highest].
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not lowest <= value <= highest or value != int(value):
        raise ReplyError("count", f"{name} must be a whole number in [{lowest}, {highest}]")
    return int(value)


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(name[:40] for name in ordered[:_MAX_NAMES])
    return (shown or "none") + (", ..." if len(ordered) > _MAX_NAMES else "")
