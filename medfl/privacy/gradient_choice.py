"""Which way to the gradients of subjects is right for a network, and fastest on this machine."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from medfl.errors import PrivacyError
from medfl.privacy.subject_gradients import METHODS, GradientMethod, Loss, SubjectBatch

TOLERANCE = 1e-5
"""Largest difference to the loop, as a share of the norm of all gradients together."""


@dataclass(frozen=True)
class MethodTrial:
    """How one method did on one batch.

    Attributes
    ----------
    method : str
    refused : str
        Type of the error, or "differs from the loop"; empty where it is right.
    difference : float
        L2 distance to the loop's gradients over their norm; infinity where there was an error.
    seconds : float
        The best of the repeats; infinity where it was refused.
    """

    method: str
    refused: str
    difference: float
    seconds: float


def try_methods(
    network: nn.Module,
    loss: Loss,
    batch: SubjectBatch,
    *,
    repeats: int = 3,
    methods: Mapping[str, GradientMethod] = METHODS,
) -> list[MethodTrial]:
    """Hold every method against the loop, then time those that are right.

    Dropout is off for the comparison, since no two ways draw alike, and on for the times.

    Parameters
    ----------
    network : Module
        In training mode.
    loss : callable
    batch : SubjectBatch
        At least two subjects, as large as training will see; random images do, and tell nobody anything.
    repeats : int
        At least 1.
    methods : mapping of str to GradientMethod
        Must hold "loop".
    """
    reference = _without_dropout(network, methods["loop"], loss, batch)
    size = _norm(reference)
    trials = []
    for name, method in methods.items():
        try:
            found = _without_dropout(network, method, loss, batch)
        except Exception as error:  # what fails here, and how, is up to autograd and to other libraries
            trials.append(MethodTrial(name, type(error).__name__, float("inf"), float("inf")))
            continue
        difference = _norm([one - other for one, other in zip(found, reference, strict=True)]) / max(size, 1e-30)
        if not difference <= TOLERANCE:
            trials.append(MethodTrial(name, "differs from the loop", difference, float("inf")))
            continue
        trials.append(MethodTrial(name, "", difference, _seconds(network, method, loss, batch, repeats)))
    return trials


def choose_method(network: nn.Module, loss: Loss, batch: SubjectBatch, *, repeats: int = 3) -> str:
    """Return the name of the fastest method that is right.

    Which one that is depends on the machine; the gradients do not, beyond rounding.

    Parameters
    ----------
    network, loss, batch, repeats
        As in `try_methods`.

    Raises
    ------
    PrivacyError
        If even the loop has no finite gradients.
    """
    right = [trial for trial in try_methods(network, loss, batch, repeats=repeats) if not trial.refused]
    if not right:
        raise PrivacyError("gradients must be finite to be compared; these are not. Check the network and the images.")
    return min(right, key=lambda trial: trial.seconds).method


def gradients_of(network: nn.Module, method: GradientMethod, loss: Loss, batch: SubjectBatch) -> list[Tensor]:
    """Return the gradients of all subjects of a batch, for each trainable parameter (n, *parameter)."""
    parts = list(method(network, loss, batch))
    return [torch.cat([piece.dense() for piece in pieces]) for pieces in zip(*parts, strict=True)]


def _without_dropout(network: nn.Module, method: GradientMethod, loss: Loss, batch: SubjectBatch) -> list[Tensor]:
    off = [module for module in network.modules() if isinstance(module, _DropoutNd) and module.training]
    for module in off:
        module.eval()
    try:
        return gradients_of(network, method, loss, batch)
    finally:
        for module in off:
            module.train()


def _norm(gradients: list[Tensor]) -> float:
    return math.sqrt(sum(float(one.double().square().sum()) for one in gradients))


def _seconds(network: nn.Module, method: GradientMethod, loss: Loss, batch: SubjectBatch, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in method(network, loss, batch):
            pass
        if batch.image.is_cuda:
            torch.cuda.synchronize(batch.image.device)
        times.append(time.perf_counter() - began)
    return min(times)
