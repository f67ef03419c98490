"""The settings of one run, whole."""

import re
from math import prod
from typing import Literal

from pydantic import Field, model_validator

from medfl.config.base import Settings
from medfl.config.data import Data, Preprocessing, SizedSites
from medfl.config.federation import Compute, Evaluation, Federation, LedgerAccount, Training
from medfl.config.network import EfficientNetNetwork, Network, UNetNetwork
from medfl.config.privacy import BottleneckStage, FeatureSharing, Protection
from medfl.config.task import Segmentation, Task
from medfl.config.training_privacy import DpFedAvg, NoTrainingPrivacy, TrainingPrivacy

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
    sharing: Literal["weights", "features"] = "weights"
    features: FeatureSharing = FeatureSharing()
    protection: Protection = Protection()
    privacy: TrainingPrivacy = NoTrainingPrivacy()
    ledger: LedgerAccount = LedgerAccount()
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        segments = self.task.kind == "segmentation"
        if self.network.kind == ("densenet" if segments else "unet"):
            raise ValueError(f"network {self.network.kind!r} cannot do the task {self.task.kind!r}")
        self._check_features(self.network)
        if isinstance(self.data.sites, SizedSites) and not all(map(_SITE.match, self.data.sites.shares)):
            raise ValueError("site names must be letters, digits, '.', '_' or '-'")
        self._check_geometry()
        self._check_privacy()
        return self

    @property
    def arm(self) -> str:
        """Name of everything that protects what sites share, as in comparisons."""
        private = [] if isinstance(self.privacy, NoTrainingPrivacy) else [self.privacy.kind]
        if self.sharing == "weights":
            return "+".join(private) or "none"
        return "+".join([self.protection.arm, *private])

    @property
    def head_at(self) -> Literal["hub", "sites"]:
        """Who trains the head in feature mode."""
        if self.features.head != "auto":
            return self.features.head
        return "sites" if self.task.kind == "segmentation" else "hub"

    def _check_features(self, network: Network) -> None:
        """Check what a frozen backbone can do, and that only such a one shares features."""
        if not isinstance(network, EfficientNetNetwork):
            if self.sharing == "features":
                raise ValueError("sharing 'features' needs a frozen public backbone: network.kind 'efficientnet_lite0'")
        else:
            if self.task.dimensions != 2:
                raise ValueError("network 'efficientnet_lite0' needs a task of 2 dimensions")
            if isinstance(self.task, Segmentation):
                self._check_maps(network, self.preprocessing.size)
        if self.sharing == "weights" and self.protection != Protection():
            raise ValueError(
                "protection acts on features, never on weights; it needs sharing 'features' "
                "(with features.head 'sites' the sites train the head and only head weights travel)"
            )
        if self.sharing == "features" and self.federation.strategy.kind != "fedavg" and self.head_at == "hub":
            raise ValueError("features.head 'hub' has nothing to aggregate: federation.strategy must be 'fedavg'")

        if self.sharing == "features" and (
            self.federation.strategy.kind == "fedbn" or self.federation.personalize_epochs
        ):
            raise ValueError("heads of shared features are not personal: no fedbn, no personalize_epochs")
        keyed = self.protection.keyed
        if keyed is not None and keyed.custody == "site" and self.head_at == "sites":
            raise ValueError("keyed.custody 'site' needs features.head 'hub': one head cannot be averaged over keys")
        stage = self.protection.minimize
        most = len(self.task.classes) - 1 + (self.task.kind == "segmentation")
        if isinstance(stage, BottleneckStage) and stage.method == "lda" and stage.directions[-1] > most:
            raise ValueError(
                f"minimize.directions must be at most {most} with method 'lda' (classes minus one), "
                f"got {list(stage.directions)}"
            )

    def _check_privacy(self) -> None:
        """Refuse what would add to, or take away from, what differential privacy of training is computed for."""
        if isinstance(self.privacy, NoTrainingPrivacy):
            return
        kind = self.privacy.kind
        if self.sharing == "features" and self.head_at == "hub":
            raise ValueError(
                f"privacy {kind!r} acts where sites train; with features.head 'hub' they release features instead: "
                "noise those (protection.noise), or set features.head 'sites'"
            )
        if self.federation.personalize_epochs:
            raise ValueError(
                f"privacy {kind!r} excludes federation.personalize_epochs: the measures of a model that was trained on "
                "without noise would be a release"
            )
        if isinstance(self.privacy, DpFedAvg) and self.federation.strategy.kind != "fedavg":
            raise ValueError("privacy 'dp_fedavg' is a strategy of its own: federation.strategy must be 'fedavg'")
        if kind == "dp_updates" and self.federation.strategy.kind in ("scaffold", "fedbn"):
            raise ValueError(
                "privacy 'dp_updates' noises the whole update and nothing else: federation.strategy must not be "
                f"{self.federation.strategy.kind!r}"
            )

    def _check_maps(self, network: EfficientNetNetwork, size: tuple[int, ...] | None) -> None:
        if network.layer == "pooled" or not network.hidden:
            raise ValueError("a segmentation needs maps and a hidden layer: set network.layer and network.hidden")
        stride = int(network.layer.removeprefix("stride"))
        if size is None or any(extent % stride for extent in size):
            raise ValueError(f"preprocessing.size must be set, in multiples of {stride}, for maps of {network.layer}")

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
