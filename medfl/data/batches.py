"""Prepared studies to training batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medfl.data.augmentation import Augmentation, apply, draw
from medfl.data.dataset import PreparedStudy
from medfl.errors import ShapeError


def epoch_batches(
    studies: Sequence[PreparedStudy],
    *,
    batch_size: int,
    patch: tuple[int, ...] | None,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every study once, in random order.

    Parameters
    ----------
    studies : sequence of PreparedStudy
    batch_size : int
        The last batch may be smaller.
    patch : tuple of int or None
        Spatial size that images are padded and randomly cropped to; None leaves them, then all must be equal.
    augmentation : Augmentation
    rng : Generator

    Yields
    ------
    image : Tensor of shape (B, C, *patch), float32
    target : Tensor of shape (B, 1, *patch) or (B,), int64

    Raises
    ------
    ShapeError
        If images differ in size and there is no patch.
    """
    order = rng.permutation(len(studies))
    for start in range(0, len(order), batch_size):
        chosen = [studies[index] for index in order[start : start + batch_size]]
        yield batch_of(chosen, patch=patch, augmentation=augmentation, rng=rng)


def batch_of(
    chosen: Sequence[PreparedStudy],
    *,
    patch: tuple[int, ...] | None,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Return one batch of these studies, each once and in this order.

    Parameters
    ----------
    chosen : sequence of PreparedStudy
        At least one.
    patch, augmentation, rng
        As in `epoch_batches`.

    Raises
    ------
    ShapeError
        If images differ in size and there is no patch.
    """
    pairs = [(study.image, study.target) for study in chosen]
    if patch is not None:
        pairs = [_cropped(image, target, patch, rng) for image, target in pairs]
    if len({tuple(image.shape) for image, _ in pairs}) > 1:
        raise ShapeError("images of one batch must have one size; set preprocessing.size, or a patch.")
    image = torch.stack([image for image, _ in pairs])
    target = torch.stack([target for _, target in pairs])
    if target.ndim > 1:
        target = target[:, None]
    drawn = draw(augmentation, tuple(image.shape[2:]), len(chosen), rng)
    image, target = apply(augmentation, drawn, image, target) if image.ndim > 2 else (image, target)
    return image, target.long()


def padded(tensor: Tensor, size: tuple[int, ...], value: float) -> tuple[Tensor, tuple[slice, ...]]:
    """Pad the last axes on both sides to at least `size`.

    Parameters
    ----------
    tensor : Tensor of shape (..., *spatial)
    size : tuple of int
    value : float
        Fill value.

    Returns
    -------
    padded : Tensor
    inside : tuple of slice
        Where the original lies, over the last ``len(size)`` axes.
    """
    spatial = tensor.shape[-len(size) :]
    before = [max(0, wanted - have) // 2 for have, wanted in zip(spatial, size, strict=True)]
    after = [max(0, wanted - have) - first for have, wanted, first in zip(spatial, size, before, strict=True)]
    inside = tuple(slice(first, first + have) for first, have in zip(before, spatial, strict=True))
    if not any(before) and not any(after):
        return tensor, inside
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return functional.pad(tensor, widths, value=value), inside


def _cropped(image: Tensor, target: Tensor, patch: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    image, _ = padded(image, patch, float(image.min()))
    starts = [int(rng.integers(have - want + 1)) for have, want in zip(image.shape[1:], patch, strict=True)]
    window = tuple(slice(start, start + want) for start, want in zip(starts, patch, strict=True))
    if target.ndim:
        target, _ = padded(target, patch, 0)
        target = target[window]
    return image[(slice(None), *window)], target
