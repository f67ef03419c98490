"""Keeping freed memory for the next step instead of giving it back to the system."""

import ctypes
import sys

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST_KEPT = 1 << 30
_LARGEST_TOP = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Tell glibc to reuse large blocks.

    A training step allocates and frees the same activations again and again. By default glibc maps each of them anew
    and the kernel clears every page. The process's peak memory does not change; between steps it stays near its peak.

    Returns
    -------
    bool
        Whether the system's C library took the setting; False elsewhere than on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    setter = getattr(ctypes.CDLL(None), "mallopt", None)
    if setter is None:
        return False
    return bool(setter(_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(setter(_TRIM_THRESHOLD, _LARGEST_TOP))
