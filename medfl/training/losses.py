"""What training minimizes; batch size 0 gives a loss of 0 with gradients of 0."""

from collections.abc import Callable

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor

IGNORED = 255
"""Target value of voxels that count neither for nor against the model."""

Loss = Callable[[Tensor, Tensor], Tensor]

_CERTAIN = 20.0


def segmentation_loss() -> Loss:
    """Return Dice plus cross-entropy, over all voxels of a batch together and without a Dice term for background.

    Returns
    -------
    callable
        (logits (B, K, *spatial), target (B, 1, *spatial) of integers in [0, K) or `IGNORED`) -> scalar. Ignored voxels
        have no gradient.
    """
    dice_and_cross_entropy = _dice_and_cross_entropy(over_batch=True)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[0] == 0:
            return logits.sum() * 0.0
        ignored = target == IGNORED
        if bool(ignored.any()):
            logits, target = _without_ignored(logits, target, ignored)
        value: Tensor = dice_and_cross_entropy(logits, target)
        return value

    return loss


def study_segmentation_loss() -> Loss:
    """Return the mean over studies of each study's own Dice plus cross-entropy, as gradients of subjects need it.

    Returns
    -------
    callable
        As `segmentation_loss`; without a branch that depends on data, so that it can be vectorized over studies.
    """
    dice_and_cross_entropy = _dice_and_cross_entropy(over_batch=False)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[0] == 0:
            return logits.sum() * 0.0
        value: Tensor = dice_and_cross_entropy(*_without_ignored(logits, target, target == IGNORED))
        return value

    return loss


def _dice_and_cross_entropy(*, over_batch: bool) -> DiceCELoss:
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=over_batch)


def _without_ignored(logits: Tensor, target: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """Make ignored voxels certain background in both."""
    background = torch.full_like(logits[:1, :, *[slice(0, 1)] * (logits.ndim - 2)], -_CERTAIN)
    background[:, 0] = _CERTAIN
    return torch.where(ignored, background, logits), target.masked_fill(ignored, 0)


def classification_loss() -> Loss:
    """Return cross-entropy: (logits (B, K), target (B,) of integers in [0, K)) -> scalar."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[0] == 0:
            return logits.sum() * 0.0
        return torch.nn.functional.cross_entropy(logits, target)

    return loss
