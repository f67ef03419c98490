"""Protections under comparison, each as a change to one configuration."""

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
HEAD_ONLY = "head-only"
"""Weight mode on the same frozen backbone: sites share the head's weights and no feature."""
DP_ARMS = ("gaussian", "bottleneck+gaussian", "knt+gaussian")
_STD = 1.0
_BITS = 2
_PROJECTED = 4


def with_arm(config: Config, arm: str, *, epsilon: float = 8.0, std: float = _STD) -> Config:
    """Return the same run with another protection; stages that the configuration has keep its settings.

    Parameters
    ----------
    config : Config
        With sharing 'features'.
    arm : str
        One of `ARMS`, or `HEAD_ONLY`.
    epsilon : float
        Of the arms with the Gaussian mechanism.
    std : float
        Of "matched-noise", in units of one standard deviation.

    Raises
    ------
    ConfigError
        If there is no such arm, or the configuration shares weights.
    """
    if config.sharing != "features":
        raise ConfigError("Arms are protections of shared features; the configuration needs sharing: features.")
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
