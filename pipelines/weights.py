"""Live tensors of a network and plain arrays, in and out."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.errors import ShapeError
from medfl.federation.program import Arrays


def load_arrays(state: Mapping[str, Tensor], arrays: Mapping[str, Tensor]) -> None:
    """Copy arrays into live tensors of the same names and shapes.

    Raises
    ------
    ShapeError
        If names or shapes differ.
    """
    if state.keys() != arrays.keys():
        raise ShapeError(f"the model must hold {len(state)} arrays with the network's names, found {len(arrays)}.")
    with torch.no_grad():
        for name, tensor in state.items():
            if tensor.shape != arrays[name].shape:
                raise ShapeError(f"{name} must have shape {tuple(tensor.shape)}, found {tuple(arrays[name].shape)}.")
            tensor.copy_(arrays[name])


def as_arrays(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return copies of live tensors as arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}


def mixed(before: Arrays, after: Arrays, share: float) -> Arrays:
    """Interpolate floating arrays; counters come from the nearer side."""
    return {
        name: (array + share * (after[name] - array)).astype(array.dtype)
        if array.dtype.kind == "f"
        else (after if share >= 0.5 else before)[name]
        for name, array in before.items()
    }
