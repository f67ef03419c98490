"""The settings of one run, whole."""

import re
from math import prod
from typing import Literal

from pydantic import Field, model_validator

from medfl.config.base import Settings
from medfl.config.data import Data, Preprocessing, SizedSites
from medfl.config.federation import Compute, Evaluation, Federation, Training
from medfl.config.network import Network, UNetNetwork
from medfl.config.task import Segmentation, Task

_SITE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


class Config(Settings):
    """One run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    task: Task
    data: Data
    preprocessing: Preprocessing = Preprocessing()
    network: Network
    training: Training
    federation: Federation = Federation()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()
    sharing: Literal["weights"] = "weights"
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if (self.task.kind == "segmentation") != (self.network.kind == "unet"):
            raise ValueError(f"network {self.network.kind!r} cannot do the task {self.task.kind!r}")
        if self.network.kind == "efficientnet_lite0" and self.task.dimensions != 2:
            raise ValueError("network 'efficientnet_lite0' needs a task of 2 dimensions")
        if isinstance(self.data.sites, SizedSites) and not all(map(_SITE.match, self.data.sites.shares)):
            raise ValueError("site names must be letters, digits, '.', '_' or '-'")
        self._check_geometry()
        return self

    def _check_geometry(self) -> None:
        dimensions = self.task.dimensions
        for name, axes in (("size", self.preprocessing.size), ("spacing_mm", self.preprocessing.spacing_mm)):
            if axes is not None and len(axes) != dimensions:
                raise ValueError(f"preprocessing.{name} must have {dimensions} numbers, got {len(axes)}")
        flips = self.training.augmentation.flip_axes
        if len(set(flips)) != len(flips) or any(not 0 <= axis < dimensions for axis in flips):
            raise ValueError(f"flip_axes must be distinct and below {dimensions}, got {list(flips)}")
        if isinstance(self.task, Segmentation) and isinstance(self.network, UNetNetwork):
            shrinks = prod(self.network.strides)
            if any(extent % shrinks for extent in self.task.patch) or max(self.task.patch) <= shrinks:
                raise ValueError(
                    f"patch must be multiples of {shrinks}, the product of the strides, with one above it; "
                    f"got {list(self.task.patch)}"
                )
