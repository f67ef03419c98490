"""How sites train and how the hub joins what they learned."""

from typing import Annotated, Literal

from pydantic import Field

from medfl.config.base import Settings


class Augmentation(Settings):
    """Random changes in training; each acts with its own probability."""

    flip_axes: tuple[int, ...] = ()
    flip: float = Field(default=0.0, ge=0, le=1)
    rotate: float = Field(default=0.0, ge=0, le=1)
    rotate_degrees: float = Field(default=15.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, le=1)
    scale_range: float = Field(default=0.1, ge=0, lt=1)
    intensity: float = Field(default=0.0, ge=0, le=1)
    noise: float = Field(default=0.0, ge=0, le=1)


class Training(Settings):
    """What a site does in one round, and how often."""

    rounds: int = Field(ge=1, le=10_000)
    local_epochs: int = Field(default=1, ge=1, le=1000)
    batch_size: int = Field(default=8, ge=1, le=4096)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = Field(default=1e-5, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    max_gradient_norm: float | None = Field(default=None, gt=0)
    augmentation: Augmentation = Augmentation()


class FedAvgStrategy(Settings):
    """Mean of the sites' models, weighted by their number of studies (McMahan et al. 2017)."""

    kind: Literal["fedavg"] = "fedavg"


class FedProxStrategy(Settings):
    """FedAvg with a pull towards the global model (Li et al. 2020)."""

    kind: Literal["fedprox"]
    mu: float = Field(default=0.01, ge=0)


class FedBNStrategy(Settings):
    """FedAvg that leaves normalization layers at the sites (Li et al. 2021)."""

    kind: Literal["fedbn"]


class FedAdamStrategy(Settings):
    """Adam at the hub on the mean update (Reddi et al. 2021)."""

    kind: Literal["fedadam"]
    learning_rate: float = Field(default=0.01, gt=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0)


class ScaffoldStrategy(Settings):
    """Control variates against drift between sites (Karimireddy et al. 2020)."""

    kind: Literal["scaffold"]


Strategy = Annotated[
    FedAvgStrategy | FedProxStrategy | FedBNStrategy | FedAdamStrategy | ScaffoldStrategy, Field(discriminator="kind")
]


class Federation(Settings):
    """How the hub deals with the sites, and what sites do with the final model.

    Attributes
    ----------
    strategy : Strategy
    personalize_epochs : int
        Epochs each site goes on training the final model on its own studies, at a quarter of the learning rate. It then
        keeps the mix of before and after that does best on its validation studies. The result stays at the site.
    minimum_replies : int
        Fewer good replies leave the model as it is.
    round_timeout_s, join_timeout_s : float
        Longest wait for replies, and for sites to appear.
    """

    strategy: Strategy = FedAvgStrategy()
    personalize_epochs: int = Field(default=0, ge=0, le=1000)
    minimum_replies: int = Field(default=1, ge=1)
    round_timeout_s: float = Field(default=3600, gt=0)
    join_timeout_s: float = Field(default=120, gt=0)


class Evaluation(Settings):
    """How often and with which inference the model is judged."""

    every: int = Field(default=1, ge=0, description="rounds between validations; 0 means never")
    minimum_subjects: int = Field(default=5, ge=3)
    uncertainty_passes: int = Field(
        default=0, ge=0, le=32, description="changed copies per study that uncertainty is taken over; 0 means none"
    )
    save_predictions: bool = True
    keep_releases: Literal["none", "last", "all"] = "all"


class Compute(Settings):
    """What the machine is asked for."""

    threads: int | None = Field(default=None, ge=1, le=256)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class LedgerAccount(Settings):
    """Which account of a site's privacy ledger a simulated run is booked on; a real site says so itself.

    Attributes
    ----------
    data_set : str
        Empty takes the run's name.
    purpose : str
    """

    data_set: str = Field(default="", max_length=120)
    purpose: str = Field(default="research", min_length=1, max_length=120)
