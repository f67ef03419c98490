"""The settings of one run, whole."""

import re
from typing import Literal

from pydantic import Field, model_validator

from medfl.config.base import Settings
from medfl.config.data import Data, Preprocessing, SizedSites
from medfl.config.federation import Compute, Evaluation, Federation, Training
from medfl.config.network import Network
from medfl.config.task import Task

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
        return self
