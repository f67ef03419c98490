"""Images from one site's update: solved exactly where a layer allows it, searched for otherwise.

The attacker is an honest but curious hub: it knows the network, the loss, the weights it sent and those it got back.
It is also given the targets and the learning rate, which makes it stronger than most real ones. Whatever it chooses it
chooses by its own objective; an original image is seen only by `medfl.attacks.gradient_inversion_results`.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from medfl.errors import ConfigError, ShapeError

GradientOf = Callable[[Tensor, Tensor], Sequence[Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
RATE = 0.1
"""First step of the search, as a share of the box (Geiping et al. 2020)."""
_EPSILON = 1e-8
_DECAY_AT, _DECAY = (3 / 8, 5 / 8, 7 / 8), 0.1


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What the search came to.

    Attributes
    ----------
    images : Tensor of shape (B, C, *spatial)
        Inside the box.
    objective : float
        Of these images: cosine distance in [0, 2] plus weighted total variation. The attacker knows nothing else.
    """

    images: Tensor
    objective: float


def analytic_inputs(weight_gradient: Tensor, bias_gradient: Tensor, *, least: float = 1e-12) -> Tensor:
    """Solve for the input of a fully connected layer with bias: ``x = dL/dW_i / dL/db_i`` (Phong et al. 2018).

    Exact for one input. For several, every row is a mean of the inputs with weights of its own, which sum to 1 but may
    be negative.

    Parameters
    ----------
    weight_gradient : Tensor of shape (out, in)
    bias_gradient : Tensor of shape (out,)
    least : float
        Rows whose bias gradient is not larger in size say nothing and are left out.

    Returns
    -------
    Tensor of shape (rows, in)
        Largest bias gradient first, so the first row is the least rounded; may have no rows.

    Raises
    ------
    ShapeError
        If both gradients do not belong to one layer.
    """
    if weight_gradient.ndim != 2 or bias_gradient.shape != weight_gradient.shape[:1]:
        raise ShapeError(
            "gradients of one fully connected layer must have shapes (out, in) and (out,), found "
            f"{tuple(weight_gradient.shape)} and {tuple(bias_gradient.shape)}."
        )
    order = torch.argsort(bias_gradient.abs(), descending=True)
    order = order[bias_gradient[order].abs() > least]
    return weight_gradient[order] / bias_gradient[order, None]


def rows_agree(inputs: Tensor, *, tolerance: float = 1e-3) -> bool:
    """Tell whether the candidates of `analytic_inputs` are one input, that is, whether the batch held one image.

    Parameters
    ----------
    inputs : Tensor of shape (rows, in)
    tolerance : float
        Largest distance to the first row, relative to its norm.

    Returns
    -------
    bool
        False for fewer than two rows: one row agrees with itself whatever the batch. Softmax over two classes gives two
        rows that agree for every batch and prove nothing.
    """
    if len(inputs) < 2:
        return False
    apart = (inputs - inputs[0]).norm(dim=1).max()
    return bool(apart <= tolerance * inputs[0].norm().clamp_min(1e-30))


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, summed over spatial axes of (B, C, *spatial); 0 for vectors (B, F)."""
    axes = range(2, images.ndim)
    return torch.stack([images.new_zeros(()), *(images.diff(dim=axis).abs().mean() for axis in axes)]).sum()


def cosine_distance(found: Sequence[Tensor], observed: Sequence[Tensor]) -> Tensor:
    """``1 - cos`` of all tensors taken as one vector, in [0, 2]; 1 where one of them is zero."""
    dot = torch.stack([(a * b).sum() for a, b in zip(found, observed, strict=True)]).sum()
    squares = [torch.stack([one.square().sum() for one in side]).sum() for side in (found, observed)]
    return 1 - dot / (squares[0] * squares[1]).sqrt().clamp_min(1e-30)


def invert_update(
    gradient_of: GradientOf,
    observed: Sequence[Tensor],
    shape: Sequence[int],
    targets: Tensor,
    *,
    steps: int,
    tv: float,
    seed: int,
    restarts: int,
    low: float = 0.0,
    high: float = 1.0,
    start: Tensor | None = None,
    rate: float = RATE,
) -> Reconstruction:
    """Search for images whose gradient points where the observed one does (Geiping et al. 2020, equation 4).

    Adam on the sign of the objective's gradient, learning rate `rate` of the box and divided by 10 after 3/8, 5/8 and
    7/8 of the steps, every iterate clipped to the box. The best iterate of the best restart is kept, by objective.

    Parameters
    ----------
    gradient_of : callable
        (images (B, C, *spatial), targets) -> gradients, with a graph back to the images.
    observed : sequence of Tensor
        In the order and the shapes of `gradient_of`; their common scale does not matter.
    shape : sequence of int
        (B, C, *spatial), or (B, F) where the network starts at features.
    targets : Tensor
        Given to `gradient_of` as they are.
    steps, restarts : int
        At least 1.
    tv : float
        Weight of the total variation, >= 0; Geiping et al. use 1e-6 to 0.1.
    seed : int
        Of the first images. Torch's own generator is not touched.
    low, high : float
        The box: values an image may have.
    start : Tensor of the shape of one image, or None
        What the first try begins with, for example the mean of the attacker's own images; further tries, and all where
        it is None, begin with noise.
    rate : float
        First step of the search as a share of the box, > 0.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ConfigError
        If a setting is out of range.
    ShapeError
        If the observed gradients do not fit, or are not finite or all zero.
    """
    if steps < 1 or restarts < 1 or tv < 0 or not low < high or rate <= 0:
        raise ConfigError(
            "gradient inversion needs steps >= 1, restarts >= 1, tv >= 0, low < high and rate > 0, got "
            f"{steps}, {restarts}, {tv}, {low}, {high} and {rate}."
        )
    if not all(bool(one.isfinite().all()) for one in observed) or not any(bool(one.any()) for one in observed):
        raise ShapeError("observed gradients must be finite and not all zero; a refused or empty update has no image.")
    generator = torch.Generator().manual_seed(seed)
    best: Reconstruction | None = None
    if start is not None and tuple(start.shape) != tuple(shape)[1:]:
        raise ShapeError(f"start must have shape {tuple(shape)[1:]}, found {tuple(start.shape)}.")
    for attempt in range(restarts):
        first = low + (high - low) * torch.rand(tuple(shape), generator=generator)
        if start is not None and attempt == 0:
            first = start.clamp(low, high).expand(tuple(shape)).clone()
        images = first.to(observed[0]).requires_grad_()
        found = _searched(gradient_of, observed, images, targets, steps=steps, tv=tv, low=low, high=high, rate=rate)
        if best is None or found.objective < best.objective:
            best = found
    if best is None or not math.isfinite(best.objective):
        raise ShapeError(
            "the objective must be finite somewhere, found none; check the network for values that are not."
        )
    return best


def reconstruct_from_update(
    network: nn.Module,
    loss: Loss,
    weights_before: Mapping[str, Tensor],
    weights_after: Mapping[str, Tensor],
    learning_rate: float,
    shape: Sequence[int],
    targets: Tensor,
    *,
    optimizer: Literal["sgd", "adam"] = "sgd",
    weight_decay: float = 0.0,
    local_steps: int = 1,
    steps: int = 1000,
    tv: float = 1e-3,
    seed: int = 0,
    restarts: int = 1,
    low: float = 0.0,
    high: float = 1.0,
    start: Tensor | None = None,
    rate: float = RATE,
) -> Reconstruction:
    """Invert what a site sent back, from the weights before and after its local steps.

    See `update_as_gradient` for how an update becomes a gradient. The network is copied, and run in training mode as
    the site ran it, with two approximations: dropout is off, and all local steps are taken to have seen the images of
    `shape` at the weights before. Batch normalization uses the statistics of the guessed batch.

    Parameters
    ----------
    network : Module
        Not changed; only parameters that take a gradient are matched.
    loss : callable
        (logits, targets) -> scalar.
    weights_before, weights_after : mapping of str to Tensor
        By name, as in `SplitNetwork.shared_state`; names that are no trained parameter are not used.
    learning_rate, weight_decay, optimizer, local_steps
        As in `update_as_gradient`.
    shape, targets, steps, tv, seed, restarts, low, high, start, rate
        As in `invert_update`.

    Returns
    -------
    Reconstruction

    Raises
    ------
    ConfigError, ShapeError
        As in `invert_update` and `update_as_gradient`.
    """
    copied = copy.deepcopy(network).train()
    for module in copied.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    parameters = {name: one for name, one in copied.named_parameters() if one.requires_grad}
    absent = [name for name in parameters if name not in weights_before or name not in weights_after]
    if not parameters or absent:
        raise ShapeError(f"weights must hold every trained parameter, at least one; {len(absent)} were not found.")
    with torch.no_grad():
        for name, one in parameters.items():
            one.copy_(weights_before[name])
    observed = update_as_gradient(
        [weights_before[name].to(one) for name, one in parameters.items()],
        [weights_after[name].to(one) for name, one in parameters.items()],
        learning_rate,
        optimizer=optimizer,
        weight_decay=weight_decay,
        local_steps=local_steps,
    )

    limits = [_rounding(one.detach(), learning_rate) for one in parameters.values()]

    def gradient_of(images: Tensor, wanted: Tensor) -> Sequence[Tensor]:
        value = loss(copied(images), wanted)
        found = torch.autograd.grad(value, list(parameters.values()), create_graph=True, materialize_grads=True)
        if optimizer == "adam" and local_steps == 1:  # large ones saturate in the update, so they do here
            return [g / (1 + r * (1 + g.abs() / _EPSILON)).to(g) for g, r in zip(found, limits, strict=True)]
        if optimizer == "adam":  # every step had about one size, whatever the gradient's
            return [g / (g.abs() + g.detach().abs().mean().clamp_min(1e-30)) for g in found]
        return found

    return invert_update(
        gradient_of,
        observed,
        shape,
        targets,
        steps=steps,
        tv=tv,
        seed=seed,
        restarts=restarts,
        low=low,
        high=high,
        start=start,
        rate=rate,
    )


def update_as_gradient(
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    learning_rate: float,
    *,
    optimizer: Literal["sgd", "adam"],
    weight_decay: float = 0.0,
    local_steps: int = 1,
    epsilon: float = _EPSILON,
) -> list[Tensor]:
    """Return the gradient behind an update, up to a common scale.

    "sgd", one step: ``(before - after) / rate - decay * before``, exact; with momentum it is a multiple, and clipping
    to a norm changes the scale only. "adam", one step: the step is ``u = g / (|g| + epsilon)`` because both moments are
    corrected for their bias, hence ``g = epsilon u / (1 - |u|)``. The sign is exact; the size is too, until
    ``1 - |u|`` drowns in the rounding r of the weights: returned is ``g / (1 + r (1 + |g| / epsilon))``. Several
    steps: the mean step, taken for the gradient at the weights before; good while weights hardly move, and for "adam"
    not more than mixed signs, which `reconstruct_from_update` compares with ``g / (|g| + mean |g|)``, layer by layer.

    Parameters
    ----------
    before, after : sequence of Tensor
        Weights of equal shapes.
    learning_rate : float
        > 0.
    optimizer : {"sgd", "adam"}
        "adam" stands for AdamW with decoupled decay, started afresh in this round.
    weight_decay : float
        >= 0.
    local_steps : int
        >= 1.
    epsilon : float
        Of Adam.

    Returns
    -------
    list of Tensor

    Raises
    ------
    ConfigError
        If a setting is out of range.
    ShapeError
        If weights do not fit together.
    """
    if learning_rate <= 0 or local_steps < 1 or weight_decay < 0 or optimizer not in ("sgd", "adam"):
        raise ConfigError(
            "an update needs learning_rate > 0, local_steps >= 1, weight_decay >= 0 and optimizer 'sgd' or 'adam', got "
            f"{learning_rate}, {local_steps}, {weight_decay} and {optimizer!r}."
        )
    if [one.shape for one in before] != [one.shape for one in after]:
        raise ShapeError("weights before and after must have the same shapes, found different ones.")
    found = []
    for old, new in zip(before, after, strict=True):
        step = (old.double() - new.double()) / (learning_rate * local_steps) - weight_decay * old.double()
        if optimizer == "adam" and local_steps == 1:
            step = epsilon * step / ((1 - step.abs()) + _rounding(old, learning_rate))
        found.append(step.to(old))
    return found


def _rounding(weight: Tensor, learning_rate: float) -> Tensor:
    """Bound, with a margin, how far rounding moves one step of Adam, in units of the learning rate; float64."""
    return 4 * torch.finfo(weight.dtype).eps * (weight.double().abs() / learning_rate + 2)


def _searched(
    gradient_of: GradientOf,
    observed: Sequence[Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    steps: int,
    tv: float,
    low: float,
    high: float,
    rate: float,
) -> Reconstruction:
    """Search from one start, which is changed in place."""
    adam = torch.optim.Adam([images], lr=rate * (high - low))
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [max(1, int(steps * at)) for at in _DECAY_AT], _DECAY)
    best, lowest = images.detach().clone(), float("inf")
    for step in range(steps + 1):
        objective = cosine_distance(gradient_of(images, targets), observed) + tv * total_variation(images)
        if float(objective.detach()) < lowest:
            best, lowest = images.detach().clone(), float(objective.detach())
        if step == steps:
            break
        (slope,) = torch.autograd.grad(objective, images)
        images.grad = slope.sign()
        adam.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(low, high)
    return Reconstruction(best, lowest)
