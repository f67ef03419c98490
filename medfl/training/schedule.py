"""How the learning rate moves over a whole run."""

import math

_FLOOR = 0.01
_WARM_START = 0.1


def learning_rate(base: float, kind: str, *, progress: float, warmup: float) -> float:
    """Return the learning rate at one point of the run.

    Parameters
    ----------
    base : float
        Highest learning rate, > 0.
    kind : {"constant", "cosine"}
        "cosine" rises linearly from a tenth during `warmup`, then falls along half a cosine to a hundredth
        (Loshchilov and Hutter 2017, without restarts).
    progress : float
        Share of all planned local epochs that lie behind, in [0, 1].
    warmup : float
        Share of the run spent rising, in [0, 1).

    Returns
    -------
    float
    """
    if kind == "constant":
        return base
    if progress < warmup:
        return base * (_WARM_START + (1 - _WARM_START) * progress / warmup)
    falling = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    return base * (_FLOOR + (1 - _FLOOR) * falling)
