"""Optimizers whose numerics are PyTorch's own kernels and whose state is plain tensors.

`torch.optim.Optimizer` imports the compiler stack when the first one is made, which takes longer than the rest of the
start of a run together. These two call the same functional kernels without it; tests hold them bit for bit against
`torch.optim.AdamW` and `torch.optim.SGD`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from medfl.errors import ConfigError


class LocalOptimizer(ABC):
    """Updates parameters from their gradients.

    Parameters
    ----------
    parameters : iterable of Tensor
        Those that require a gradient are kept, in order.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]

    @abstractmethod
    def step(self, learning_rate: float) -> None:
        """Change the parameters once; every parameter must hold a gradient."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def _gradients(self) -> list[Tensor]:
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]


class AdamW(LocalOptimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), betas 0.9 and 0.999, epsilon 1e-8."""

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float) -> None:
        super().__init__(parameters)
        self.weight_decay = weight_decay
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change the parameters once."""
        adamw(
            self.parameters,
            self._gradients(),
            self._first,
            self._second,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )


class SGD(LocalOptimizer):
    """Stochastic gradient descent with Nesterov momentum and L2 weight decay."""

    def __init__(self, parameters: Iterable[Tensor], *, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._momenta: list[Tensor | None] = [None for _ in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change the parameters once."""
        sgd(
            self.parameters,
            self._gradients(),
            self._momenta,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self.momentum > 0,
            maximize=False,
        )


def make_optimizer(kind: str, parameters: Iterable[Tensor], *, momentum: float, weight_decay: float) -> LocalOptimizer:
    """Return a fresh optimizer.

    Parameters
    ----------
    kind : {"adamw", "sgd"}
    parameters : iterable of Tensor
    momentum : float
        In [0, 1); used by "sgd".
    weight_decay : float
        At least 0.

    Raises
    ------
    ConfigError
        If `kind` is unknown.
    """
    if kind == "adamw":
        return AdamW(parameters, weight_decay=weight_decay)
    if kind == "sgd":
        return SGD(parameters, momentum=momentum, weight_decay=weight_decay)
    raise ConfigError(f"optimizer must be 'adamw' or 'sgd', got {kind!r}.")
