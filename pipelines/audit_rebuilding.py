"""Images rebuilt from one update of a run's network, and updates made to try that on."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.attacks.gradient_inversion import analytic_inputs, reconstruct_from_update, update_as_gradient
from medfl.attacks.gradient_inversion_results import InversionCase
from medfl.networks.split_network import SplitNetwork
from medfl.training.loop import train_batches
from medfl.training.optimizers import make_optimizer
from pipelines.audit_updates import Example, SentUpdate, UpdateMaterial, Weights
from pipelines.weights import load_arrays

_TV = 0.06
"""Weight of the total variation of images scaled to the box."""
_FIRST_STEP = 0.04
"""A tenth, as from noise, would throw away the attacker's mean image that the search begins with."""
_MOST_ROWS = 256

Images = NDArray[np.float32]
Method = Callable[[UpdateMaterial, SentUpdate, Sequence[Example]], Images]
"""(material, update, examples whose targets are known) -> what was rebuilt, (R, *spatial) or (R, F)."""


def gradient_matching(steps: int, seed: int) -> Method:
    """Return the search for images whose gradient fits, beginning at the mean of the attacker's own images.

    Parameters
    ----------
    steps : int
        Of the search.
    seed : int
    """

    def method(material: UpdateMaterial, update: SentUpdate, batch: Sequence[Example]) -> Images:
        low, high = material.box
        network = copy.deepcopy(material.network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in update.after)
        found = reconstruct_from_update(
            network,
            material.loss,
            update.before,
            update.after,
            update.rate,
            (len(batch), *batch[0].image.shape),
            torch.stack([example.target for example in batch]).to(_device(network)),
            optimizer="adam" if update.optimizer == "adamw" else "sgd",
            weight_decay=update.weight_decay,
            local_steps=update.steps,
            steps=steps,
            tv=_TV / (high - low),
            seed=seed,
            low=low,
            high=high,
            start=material.prior,
            rate=_FIRST_STEP,
        )
        return seen(material, found.images)

    return method


def solve_first_layer(material: UpdateMaterial, update: SentUpdate, batch: Sequence[Example]) -> Images:
    """Divide the weights' change of the first layer by the bias's; targets are not needed.

    Returns
    -------
    ndarray of shape (R, F)
        One row per output that changed; a row of zeros where none did.
    """
    name = first_linear(material.network)
    found = update_as_gradient(
        [update.before[f"{name}.{part}"] for part in ("weight", "bias")],
        [update.after[f"{name}.{part}"] for part in ("weight", "bias")],
        update.rate,
        optimizer="adam" if update.optimizer == "adamw" else "sgd",
        weight_decay=update.weight_decay,
        local_steps=update.steps,
    )
    rows = analytic_inputs(found[0], found[1])[:_MOST_ROWS]
    return rows.numpy() if len(rows) else np.zeros((1, found[0].shape[1]), dtype=np.float32)


def first_linear(network: SplitNetwork) -> str | None:
    """Return the name of the first layer with weights where it is fully connected and has a bias; else None."""
    for name, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            return name if isinstance(module, nn.Linear) and module.bias is not None else None
    return None


def made_update(
    material: UpdateMaterial,
    before: Weights,
    batches: Sequence[Sequence[Example]],
    *,
    rate: float,
    seed: int,
    plain: bool = False,
) -> SentUpdate:
    """Train as a site does, one step on each batch, and return what it would send.

    Parameters
    ----------
    material : UpdateMaterial
    before : dict of str to Tensor
    batches : sequence of sequence of Example
    rate : float
        Learning rate of every step.
    seed : int
        Of dropout.
    plain : bool
        Take plain gradient steps, without momentum or decay, in place of the run's optimizer.
    """
    training = material.training
    network = copy.deepcopy(material.network)
    state = network.shared_state()
    load_arrays(state, before)
    kind = "sgd" if plain else training.optimizer
    decay = 0.0 if plain else training.weight_decay
    optimizer = make_optimizer(
        kind, network.parameters(), momentum=0.0 if plain else training.momentum, weight_decay=decay
    )
    stacked = [
        (torch.stack([one.image for one in batch]), torch.stack([one.target for one in batch])) for batch in batches
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train_batches(
            network,
            stacked,
            loss=material.loss,
            optimizer=optimizer,
            learning_rate=lambda step: rate,
            max_gradient_norm=training.max_gradient_norm,
            device=_device(network),
        )
    after = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    members = tuple(example for batch in batches for example in batch)
    return SentUpdate("", 0, before, after, len(batches), rate, "sgd" if plain else training.optimizer, decay, members)


def takes(material: UpdateMaterial, batch: int) -> bool:
    """Tell whether the network can be trained on batches of this size; batch normalization may need two images."""
    try:
        made_update(material, material.start, [material.own[:batch]], rate=material.first_rate, seed=0)
    except ValueError:
        return False
    return True


def cases_of(
    material: UpdateMaterial, asked: Sequence[Example], rebuilt: Images, twins: Images | None
) -> list[InversionCase]:
    """Return one case for each example; the n-th is what the n-th target was given for, where there are as many."""
    originals = seen(material, torch.stack([example.image for example in asked]))
    matched = len(rebuilt) == len(asked)
    return [
        InversionCase(example.subject, original, rebuilt, place if matched else 0, twins)
        for place, (example, original) in enumerate(zip(asked, originals, strict=True))
    ]


def seen(material: UpdateMaterial, images: Tensor) -> Images:
    """Return images as they are judged: (N, *spatial), the mean of their channels; features as vectors (N, F)."""
    images = images.detach().cpu()
    return (images.mean(dim=1) if material.is_image else images.flatten(1)).numpy()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
