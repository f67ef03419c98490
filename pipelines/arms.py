"""Protections under comparison, each as a change to one configuration: of shared features, or of shared weights."""

from pydantic import TypeAdapter

from medfl.config.network import EfficientNetNetwork
from medfl.config.privacy import (
    BottleneckStage,
    GaussianStage,
    KeyedStage,
    Noise,
    PlainNoiseStage,
    ProjectionStage,
    Protection,
)
from medfl.config.settings import Config
from medfl.config.training_privacy import NoTrainingPrivacy, TrainingPrivacy
from medfl.errors import ConfigError

ARMS = (
    "none",
    "bottleneck",
    "knt",
    "bottleneck+knt",
    "gaussian",
    "bottleneck+gaussian",
    "knt+gaussian",
    "matched-noise",
    "permutation",
    "affine",
    "projection",
    "quantise",
)
WEIGHT_ARMS = ("none", "dp_sgd", "dp_updates", "dp_fedavg")
"""Differential privacy of training, where sites share weights."""
HEAD_ONLY = "head-only"
"""Weight mode on the same frozen backbone: sites share the head's weights and no feature."""
DP_ARMS = ("gaussian", "bottleneck+gaussian", "knt+gaussian", *WEIGHT_ARMS[1:])
_DELTA = 1e-5
_PRIVACY: TypeAdapter[TrainingPrivacy] = TypeAdapter(TrainingPrivacy)
_STD = 1.0
_BITS = 2
_PROJECTED = 4


def with_arm(config: Config, arm: str, *, epsilon: float = 8.0, std: float = _STD) -> Config:
    """Return the same run with another protection; stages that the configuration has keep its settings.

    Parameters
    ----------
    config : Config
    arm : str
        With sharing 'features' one of `ARMS`, or `HEAD_ONLY`; with sharing 'weights' one of `WEIGHT_ARMS`.
    epsilon : float
        Of the arms with differential privacy.
    std : float
        Of "matched-noise", in units of one standard deviation.

    Raises
    ------
    ConfigError
        If there is no such arm for what the configuration shares.
    """
    if config.sharing == "weights":
        return _with_private_training(config, arm, epsilon)
    if arm == HEAD_ONLY:
        return config.model_copy(update={"sharing": "weights", "protection": Protection()})
    if arm not in ARMS:
        raise ConfigError(f"--arms must be of {', '.join((*ARMS, HEAD_ONLY))}, got {arm!r}.")
    if arm == "permutation" and isinstance(config.network, EfficientNetNetwork) and config.network.layer == "pooled":
        raise ConfigError("The arm 'permutation' moves positions of maps; pooled features have none.")
    own = config.protection
    bottleneck = own.minimize if isinstance(own.minimize, BottleneckStage) else BottleneckStage()
    keyed = own.keyed or KeyedStage()
    protection = Protection(
        minimize=_minimize(arm, bottleneck),
        noise=_noise(arm, own, epsilon, std),
        quantize=_BITS if arm == "quantise" else None,
        keyed=_keyed(arm, keyed),
    )
    return config.model_copy(update={"protection": protection})


def _with_private_training(config: Config, arm: str, epsilon: float) -> Config:
    if arm not in WEIGHT_ARMS:
        raise ConfigError(
            f"--arms of a configuration that shares weights must be of {', '.join(WEIGHT_ARMS)}, got {arm!r}; "
            "protections of features need sharing: features."
        )
    if arm == "none":
        return config.model_copy(update={"privacy": NoTrainingPrivacy()})
    own = config.privacy.model_dump() if config.privacy.kind == arm else {"kind": arm, "delta": _DELTA}
    return config.model_copy(update={"privacy": _PRIVACY.validate_python(own | {"epsilon": epsilon})})


def _minimize(arm: str, bottleneck: BottleneckStage) -> BottleneckStage | ProjectionStage | None:
    if arm.startswith("bottleneck"):
        return bottleneck
    return ProjectionStage(kind="projection", directions=_PROJECTED) if arm == "projection" else None


def _noise(arm: str, own: Protection, epsilon: float, std: float) -> Noise | None:
    if arm == "matched-noise":
        return PlainNoiseStage(kind="plain", std=std)
    if arm not in DP_ARMS:
        return None
    given = own.noise if isinstance(own.noise, GaussianStage) else GaussianStage(epsilon=epsilon)
    return given.model_copy(update={"epsilon": epsilon})


def _keyed(arm: str, keyed: KeyedStage) -> KeyedStage | None:
    if "knt" in arm:
        return keyed
    if arm == "affine":
        return keyed.model_copy(update={"mode": "affine"})
    if arm == "permutation":
        return keyed.model_copy(update={"mode": "affine", "mixer": "none"})
    return None
