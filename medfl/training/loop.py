"""Local epochs over batches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medfl.training.gradient_rules import GradientRule
from medfl.training.losses import Loss
from medfl.training.optimizers import LocalOptimizer

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LocalResult:
    """What local training came to.

    Attributes
    ----------
    loss : float
        Mean training loss per study.
    studies : int
        Studies seen, counted once for each time.
    steps : int
        Optimizer steps taken.
    """

    loss: float
    studies: int
    steps: int


def train_batches(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    loss: Loss,
    optimizer: LocalOptimizer,
    learning_rate: Callable[[int], float],
    rules: Sequence[GradientRule] = (),
    max_gradient_norm: float | None = None,
    device: torch.device | None = None,
) -> LocalResult:
    """Train `network` in place on each batch once.

    Parameters
    ----------
    network : Module
    batches : iterable of (Tensor, Tensor)
        Images (B, C, *spatial) and targets; batch size 0 is legal and counts as a step.
    loss : callable
        (logits, target) -> scalar.
    optimizer : LocalOptimizer
    learning_rate : callable
        Index of the step in this call -> learning rate.
    rules : sequence of GradientRule
        Applied in order before clipping.
    max_gradient_norm : float or None
        L2 norm over all gradients that a step may have.
    device : torch.device or None
        Where batches are moved; None leaves them.

    Returns
    -------
    LocalResult
    """
    network.train()
    total, studies, steps = torch.zeros((), device=device), 0, 0
    for image, target in batches:
        if device is not None:
            image, target = image.to(device), target.to(device)
        optimizer.zero_grad()
        value = loss(network(image), target)
        torch.autograd.backward([value])
        for rule in rules:
            rule.apply(optimizer.parameters)
        if max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(optimizer.parameters, max_gradient_norm)
        optimizer.step(learning_rate(steps))
        total += value.detach() * image.shape[0]
        studies += image.shape[0]
        steps += 1
    return LocalResult(loss=float(total) / max(1, studies), studies=studies, steps=steps)
