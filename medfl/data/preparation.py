"""What happens to every image and target once, before training sees them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medfl.errors import ImageReadError
from medfl.imaging.volume import Volume

IGNORED = 255
"""Value of voxels of a prepared mask that count neither for nor against the model."""

_VERSION = 2


@dataclass(frozen=True)
class Preparation:
    """How images and targets become tensors; two equal preparations give equal tensors.

    Attributes
    ----------
    dimensions : 2 or 3
    channels : int
        Channels the network takes; grey pictures are kept at 1, colour is kept at 3.
    size : tuple of int or None
        Spatial size after resizing, (H, W) or (D, H, W).
    spacing_mm : tuple of float or None
        Spacing after resampling, (D, H, W).
    intensity : {"zscore", "unit"}
        "zscore" clips each image at its 0.5 and 99.5 percentiles, then makes mean 0 and standard deviation 1;
        "unit" maps the 8-bit range to [-1, 1].
    mask_values : mapping of int to int
        Mask value in the file -> class index; values not named are background. Empty for classification.
    ignore_value : int or None
        Mask value that becomes `IGNORED`.
    label_values : mapping of str to int
        Class label in the manifest -> class index. Empty for segmentation.
    """

    dimensions: int
    channels: int
    size: tuple[int, ...] | None
    spacing_mm: tuple[float, ...] | None
    intensity: str
    mask_values: Mapping[int, int] = field(default_factory=dict)
    ignore_value: int | None = None
    label_values: Mapping[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """Return a SHA-256 over everything that decides the result."""
        text = json.dumps([_VERSION, asdict(self)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def image(self, volume: Volume) -> Tensor:
        """Return the prepared image, float32 of shape (C, *spatial).

        Raises
        ------
        ImageReadError
            If the volume has another number of dimensions or channels.
        """
        array = self._checked(volume)
        tensor = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
        target = self._target_shape(volume)
        if target != tuple(tensor.shape[1:]):
            mode = "bilinear" if self.dimensions == 2 else "trilinear"
            shrinks = self.dimensions == 2 and any(new < old for new, old in zip(target, tensor.shape[1:], strict=True))
            tensor = functional.interpolate(tensor[None], size=list(target), mode=mode, antialias=shrinks)[0]
        return _unit(tensor) if self.intensity == "unit" else _zscore(tensor)

    def mask(self, volume: Volume) -> Tensor:
        """Return the prepared mask, uint8 class indices of shape (*spatial).

        Raises
        ------
        ImageReadError
            If the mask has more than one channel or values that are not whole numbers.
        """
        array = volume.array
        if array.shape[0] != 1 and not all(np.array_equal(array[0], other) for other in array[1:]):
            raise ImageReadError("channels", f"a mask must have 1 channel, found {array.shape[0]} that differ")
        values = array[0]
        if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
            raise ImageReadError("label_fraction", "mask values must be whole numbers, found fractions")
        classes = np.zeros(values.shape, dtype=np.uint8)
        for value, index in self.mask_values.items():
            classes[values == value] = index
        if self.ignore_value is not None:
            classes[values == self.ignore_value] = IGNORED
        tensor = torch.from_numpy(classes)
        target = self._target_shape(volume)
        if target != tuple(tensor.shape):
            tensor = functional.interpolate(tensor[None, None].float(), size=list(target), mode="nearest-exact")[0, 0]
        return tensor.to(torch.uint8)

    def label(self, value: str) -> Tensor:
        """Return the class index of a label in the manifest, a scalar int64.

        Raises
        ------
        ImageReadError
            If the label is not among the classes.
        """
        if value not in self.label_values:
            raise ImageReadError("label_unknown", f"the label must be one of {sorted(self.label_values)}")
        return torch.tensor(self.label_values[value])

    def _checked(self, volume: Volume) -> NDArray[np.generic]:
        array = volume.array
        if len(volume.spatial_shape) != self.dimensions:
            raise ImageReadError(
                "dimensions", f"the image must have {self.dimensions} dimensions, found {len(volume.spatial_shape)}"
            )
        if array.shape[0] != self.channels:
            if self.channels == 1 and array.shape[0] in (2, 3, 4):
                color = array[:3]
                return color[:1] if bool((color == color[:1]).all()) else color.mean(axis=0, keepdims=True)
            raise ImageReadError("channels", f"the image must have {self.channels} channels, found {array.shape[0]}")
        return array

    def _target_shape(self, volume: Volume) -> tuple[int, ...]:
        if self.size is not None:
            return self.size
        if self.spacing_mm is None:
            return volume.spatial_shape
        return tuple(
            max(1, round(extent * old / new))
            for extent, old, new in zip(volume.spatial_shape, volume.spacing_mm, self.spacing_mm, strict=True)
        )


def _unit(image: Tensor) -> Tensor:
    return image / 127.5 - 1.0


def _zscore(image: Tensor) -> Tensor:
    values = image.numpy()
    low, high = np.percentile(values, [0.5, 99.5])
    clipped = np.clip(values, low, high)
    scaled = (clipped - clipped.mean(dtype=np.float64)) / (clipped.std(dtype=np.float64) + 1e-6)
    return torch.from_numpy(scaled.astype(np.float32))
