"""What a strategy asks a site to do to its gradients before each step."""

from collections.abc import Sequence

import torch
from torch import Tensor


class GradientRule:
    """Changes gradients in place; this one leaves them as they are."""

    def apply(self, parameters: Sequence[Tensor]) -> None:
        """Change `parameter.grad` of each parameter."""


class Proximal(GradientRule):
    """Pull towards the global model: gradient + mu (w - w_global) (FedProx, Li et al. 2020, equation 2).

    Parameters
    ----------
    mu : float
        Strength, at least 0.
    reference : sequence of Tensor
        The global parameters, in the order of the parameters given to `apply`.
    """

    def __init__(self, mu: float, reference: Sequence[Tensor]) -> None:
        self.mu = mu
        self.reference = [tensor.clone() for tensor in reference]

    @torch.no_grad()
    def apply(self, parameters: Sequence[Tensor]) -> None:
        """Add the pull to each gradient."""
        for parameter, reference in zip(parameters, self.reference, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - reference, alpha=self.mu)


class ControlVariate(GradientRule):
    """Gradient - c_site + c_global (SCAFFOLD, Karimireddy et al. 2020, equation 3).

    The site's next control variate is the mean of the raw gradients it saw, the paper's option I taken along the local
    path; unlike option II it does not presume plain gradient steps, so it holds for AdamW as well.

    Parameters
    ----------
    correction : sequence of Tensor
        c_global - c_site, in the order of the parameters given to `apply`.
    """

    def __init__(self, correction: Sequence[Tensor]) -> None:
        self.correction = list(correction)
        self._sum = [torch.zeros_like(tensor) for tensor in correction]
        self._steps = 0

    @torch.no_grad()
    def apply(self, parameters: Sequence[Tensor]) -> None:
        """Remember the raw gradients, then correct them."""
        self._steps += 1
        for parameter, correction, total in zip(parameters, self.correction, self._sum, strict=True):
            if parameter.grad is not None:
                total.add_(parameter.grad)
                parameter.grad.add_(correction)

    def next_variate(self) -> list[Tensor]:
        """Return the mean raw gradient; zeros before the first step."""
        return [total / max(1, self._steps) for total in self._sum]
