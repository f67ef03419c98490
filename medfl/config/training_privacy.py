"""Differential privacy of training: what is clipped, who adds the noise, and for which epsilon."""

from typing import Annotated, Literal

from pydantic import Field

from medfl.config.base import Settings

Epsilon = Annotated[float, Field(gt=0, le=1000)]
Delta = Annotated[float, Field(gt=0, lt=1)]
Clip = Annotated[float, Field(gt=0, le=1e6)]


class NoTrainingPrivacy(Settings):
    """Training as it is; epsilon is infinite."""

    kind: Literal["none"] = "none"


class DpSgd(Settings):
    """Gradients of subjects are clipped and noised at the site, at every step; the hub is not trusted.

    Attributes
    ----------
    epsilon, delta : float
        Of everything that training shows about one subject of a site, over all rounds; delta at most 1 / (10 *
        subjects) of the site.
    adjacency : str
        "add-remove" or "replace" one subject.
    clip : float
        Largest L2 norm of one subject's gradient.
    rate : float
        Chance of each subject to take part in a step; ``local_epochs / rate`` steps make a round.
    studies_per_subject : int
        Most studies of one subject in a step.
    optimizer, learning_rate, momentum
        Of the steps on noised gradients, without weight decay; they stand in for those of `training`, as do the clip
        for `max_gradient_norm` and the rate for `batch_size`, which only says how many studies are computed at once.
    copies : int
        Changed copies of each study that its gradient is the mean of (augmentation multiplicity).
    canaries : int
        Made-up gradients that every site mixes in, each by a fair coin, to measure the guarantee; they cost accuracy. 0
        is none; there can be no more than trainable parameters.
    """

    kind: Literal["dp_sgd"]
    epsilon: Epsilon
    delta: Delta
    adjacency: Literal["add-remove", "replace"] = "add-remove"
    clip: Clip = 1.0
    rate: float = Field(default=0.1, gt=0, le=1)
    studies_per_subject: int = Field(default=8, ge=1, le=1000)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    copies: int = Field(default=1, ge=1, le=64)
    canaries: int = Field(default=0, ge=0, le=10_000)


class DpUpdates(Settings):
    """Every site clips and noises its whole update, once a round; the hub is not trusted. Replace one subject.

    Attributes
    ----------
    epsilon, delta : float
        Over all rounds.
    clip : float
        Largest L2 norm of one site's update.
    """

    kind: Literal["dp_updates"]
    epsilon: Epsilon
    delta: Delta
    clip: Clip = 1.0


class DpFedAvg(Settings):
    """The hub clips updates, takes their plain mean and noises it; the hub is trusted (McMahan et al. 2018).

    Attributes
    ----------
    epsilon, delta : float
        Over all rounds, for a whole site and so for each of its subjects, against who sees the global models only.
    clip : float
        Largest L2 norm of one site's update.
    """

    kind: Literal["dp_fedavg"]
    epsilon: Epsilon
    delta: Delta
    clip: Clip = 1.0


TrainingPrivacy = Annotated[NoTrainingPrivacy | DpSgd | DpUpdates | DpFedAvg, Field(discriminator="kind")]
