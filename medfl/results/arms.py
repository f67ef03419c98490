"""What protections cost and what they leave, side by side."""

import math

from pydantic import Field

from medfl.results.attack import AttackResult
from medfl.results.metrics import ResultModel


class Utility(ResultModel):
    """How well the task is done on test subjects.

    Attributes
    ----------
    name : str
        "auroc" or "dice_mean".
    value, ci_low, ci_high : float
        With a 95 % interval, resampled by subject.
    n : int
        Test subjects.
    """

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int


class ArmResult(ResultModel):
    """One run of one protection.

    Attributes
    ----------
    arm : str
    seed : int
    epsilon : float
        Of the features alone, per subject; infinity unless proven.
    noise_std : float
        Of noise without a proof, in units of one standard deviation of a clear feature; 0 without.
    channels : int
        Of one study's protected features; 0 where no features are shared.
    utility : Utility
    attacks : tuple of AttackResult
        Re-identification of subjects the attacker has never seen; empty where nothing can be attacked.
    bytes_up : int
        Array bytes that all sites sent, for learning a bottleneck and in training.
    seconds : float
        The whole run, in one process.
    milliseconds_per_study : float
        Median time to protect one study's features; 0 without features.
    """

    arm: str
    seed: int
    epsilon: float = math.inf
    noise_std: float = Field(default=0.0, ge=0)
    channels: int = Field(ge=0)
    utility: Utility
    attacks: tuple[AttackResult, ...] = ()
    bytes_up: int = Field(ge=0)
    seconds: float = Field(ge=0)
    milliseconds_per_study: float = Field(ge=0)


class ArmTable(ResultModel):
    """Everything `arms.json` holds."""

    config: str
    rows: tuple[ArmResult, ...]
