"""From the settings of a protection to protectors, in the order in which they act."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.config.privacy import (
    BottleneckStage,
    GaussianStage,
    KeyedStage,
    PlainNoiseStage,
    ProjectionStage,
    Protection,
)
from medfl.config.settings import Config
from medfl.errors import PrivacyError
from medfl.networks.backbones import EfficientNetLite0
from medfl.privacy.ablations import ChannelProjection, Quantization
from medfl.privacy.gaussian import GaussianNoise, NoiseSource, PlainNoise
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey, KeyContext
from medfl.privacy.protector import FeatureProtector, NoProtection, ProtectorChain
from medfl.privacy.standardization import Standardization, from_batch_norm
from medfl.results.canonical import sha256
from pipelines.custody import Custody
from pipelines.minimization import Minimization

_PROJECTION_SEED = 20_260_514
_BATCH = 256


@dataclass(frozen=True)
class Cut:
    """What everybody knows about the place where the network is cut.

    Attributes
    ----------
    shape : tuple of int
        Of one study's clear features, (C,) or (C, H, W).
    model : str
        Name of the backbone, its layer and the SHA-256 of its weights.
    """

    shape: tuple[int, ...]
    model: str
    standardization: Standardization


def cut_of(encoder: EfficientNetLite0, size: tuple[int, ...] | None) -> Cut:
    """Return the cut of a frozen backbone; it follows from public weights alone."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    facts = encoder.normalization(size or (224, 224))
    return Cut(
        encoder.shape(size),
        f"efficientnet_lite0/{encoder.layer}/{digest.hexdigest()}",
        _standardization(facts.mean, facts.std, facts.rectified_positions),
    )


def _standardization(mean: Tensor, std: Tensor, rectified_positions: int) -> Standardization:
    if rectified_positions:
        return from_batch_norm(mean.numpy(), std.numpy(), rectified_positions)
    return Standardization(mean.numpy(), std.numpy())


def protected_shape(protection: Protection, cut: Cut, minimized: Minimization | None) -> tuple[int, ...]:
    """Return the shape of one study's protected features."""
    channels = cut.shape[0]
    if isinstance(protection.minimize, ProjectionStage):
        channels = protection.minimize.directions
    elif minimized is not None:
        channels = minimized.channels
    return (channels, *cut.shape[1:])


def protection_digest(config: Config, cut: Cut, minimized: Minimization | None) -> str:
    """Return the SHA-256 of everything public that decides what protected features look like."""
    return sha256(
        {
            "protection": config.protection.model_dump(mode="json"),
            "model": cut.model,
            "minimization": "" if minimized is None else _digest(minimized.to_arrays()),
        }
    )


def standardized(cut: Cut, features: Sequence[Tensor]) -> Tensor:
    """Return clear features (N, C, ...) in public units; they stay at the site."""
    with torch.inference_mode():
        return torch.cat([cut.standardization(torch.stack(list(part))) for part in _parts(features)])


class SiteProtection:
    """Protects features at one site.

    Parameters
    ----------
    config : Config
    cut : Cut
    minimized : Minimization or None
        What the bottleneck keeps, where there is one.
    custody : Custody
    site : str
    """

    def __init__(self, config: Config, cut: Cut, minimized: Minimization | None, custody: Custody, site: str) -> None:
        protection = config.protection
        self._site, self._custody, self._cut = site, custody, cut
        self._noise, self._keyed = protection.noise, protection.keyed
        self.shape = protected_shape(protection, cut, minimized)
        self._before = _minimizer(protection, cut, minimized)
        self._after, self.key = _keyed(config, cut, self.shape, custody, site)
        self.minimized = minimized
        self._label = protection_digest(config, cut, minimized)

    @property
    def key_id(self) -> str:
        """Id of the keyed transform's key; empty without one."""
        return "" if self.key is None else self.key.key_id

    def charge(self, images: int) -> None:
        """Count images against the cap of the key, before anything leaves.

        Raises
        ------
        KeyFileError
            If the cap would be exceeded; nothing is counted.
        """
        if self.key is not None and self._keyed is not None:
            self._custody.charge(self._site, self.key, self._keyed.custody, images)

    def protect(self, features: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Return protected features (N, C', ...).

        Parameters
        ----------
        features : sequence of Tensor
            Clear features of one study each.
        names : sequence of str
            What the studies are called. Equal studies with equal features in equal order, under equal settings, get
            equal noise, so that doing it again tells nothing new; any difference gives independent noise.
        """
        source = None if self._noise is None else self._custody.noise(self._site, self._noise_label(features, names))
        chain = ProtectorChain([self._before, _noise(self._noise, source, self.shape), self._after])
        with torch.inference_mode():
            parts = [chain(torch.stack(list(part))) for part in _parts(features)]
        return torch.cat(parts) if parts else torch.zeros((0, *self.shape))

    def _noise_label(self, features: Sequence[Tensor], names: Sequence[str]) -> str:
        content = hashlib.sha256()
        for one in features:
            content.update(one.contiguous().numpy().tobytes())
        facts = {"protection": self._label, "key": self.key_id, "studies": list(names), "content": content.hexdigest()}
        return sha256(facts)


def _minimizer(protection: Protection, cut: Cut, minimized: Minimization | None) -> FeatureProtector:
    stages: list[FeatureProtector] = [cut.standardization]
    match protection.minimize:
        case BottleneckStage():
            _check_reach(protection.minimize, minimized)
            if minimized is None or minimized.channels not in protection.minimize.directions:
                raise PrivacyError(
                    "The hub must send as many directions as the plan allows; it sent "
                    f"{0 if minimized is None else minimized.channels}. Nothing was released."
                )
            stages += minimized.protectors()
        case ProjectionStage():
            stages.append(ChannelProjection(cut.shape[0], protection.minimize.directions, seed=_PROJECTION_SEED))
        case None:
            if minimized is not None:
                raise PrivacyError("The plan has no bottleneck, and the hub sent directions. Nothing was released.")
    return ProtectorChain(stages)


def _check_reach(stage: BottleneckStage, minimized: Minimization | None) -> None:
    """Refuse what a hub left out; how far the reach goes is the hub's word, as the directions are."""
    if minimized is None:
        return
    reach = minimized.reach
    if (reach is None) != (stage.saturate is None) or (reach is not None and len(reach.half) != minimized.channels):
        raise PrivacyError("The hub must send a reach exactly where the plan saturates scores. Nothing was released.")


def _noise(
    stage: GaussianStage | PlainNoiseStage | None, source: NoiseSource | None, shape: tuple[int, ...]
) -> FeatureProtector:
    if stage is None or source is None:
        return NoProtection()
    if isinstance(stage, PlainNoiseStage):
        return PlainNoise(stage.std, source)
    return GaussianNoise(
        clip=stage.clip * prod(shape) ** 0.5,
        epsilon=stage.epsilon,
        delta=stage.delta,
        releases_per_subject=stage.studies_per_subject,
        source=source,
    )


def _keyed(
    config: Config, cut: Cut, shape: tuple[int, ...], custody: Custody, site: str
) -> tuple[FeatureProtector, ContextKey | None]:
    protection = config.protection
    stages: list[FeatureProtector] = []
    if protection.quantize is not None:
        stages.append(Quantization(protection.quantize))
    key = None
    if protection.keyed is not None:
        settings = transform_settings(protection.keyed)
        scope = protection.keyed.custody
        context = KeyContext(
            tenant=config.name,
            site=site if scope == "site" else "",
            purpose="features",
            model=cut.model,
            layer=cut.model.split("/")[1],
            shape=shape,
            settings=settings.digest(),
            scope=scope,
            epoch=custody.epoch(site, scope),
        )
        key = custody.transform_key(site, context)
        stages.append(KeyedNonlinearTransform(key, shape, settings))
    return ProtectorChain(stages), key


def transform_settings(keyed: KeyedStage) -> TransformSettings:
    """Return the transform's settings."""
    return TransformSettings(
        mode=keyed.mode,
        rounds=keyed.rounds,
        kappa=keyed.kappa,
        omega=keyed.omega,
        mixer=keyed.mixer,
        block=keyed.block,
        permutation=keyed.permutation,
        block_shape=keyed.block_shape,
    )


def _parts(features: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    for start in range(0, len(features), _BATCH):
        yield features[start : start + _BATCH]


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
