"""The hub's side of shared features: directions, releases, and training on what arrived."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.data.manifest import StudyRow
from medfl.data.preparation import IGNORED
from medfl.errors import FederationError, PrivacyError, ReplyError
from medfl.federation.feature_hub import FeatureHub, Received
from medfl.federation.hub import Hub, Trained
from medfl.federation.program import Arrays
from medfl.privacy.key_wrapping import Identity
from medfl.results.history import SiteRelease
from pipelines.directions import learn_directions
from pipelines.feature_program import KEYS_PER_SITE, own_head
from pipelines.fit import Stretch, fit
from pipelines.minimization import Minimization
from pipelines.pipeline import Pipeline, class_count
from pipelines.protection import cut_of, protected_shape, protection_digest
from pipelines.sealing import open_release
from pipelines.weights import as_arrays, load_arrays


@dataclass(frozen=True)
class SharedFeatures:
    """What the hub has before the first round.

    Attributes
    ----------
    minimized : Minimization or None
        What the bottleneck keeps.
    received : dict of str to Received
        By site; empty where the sites train the head.
    releases : tuple of SiteRelease
    """

    minimized: Minimization | None
    received: dict[str, Received]
    releases: tuple[SiteRelease, ...]


def share_features(
    hub: Hub, pipeline: Pipeline[Any], config: Config, known: Minimization | None = None
) -> SharedFeatures:
    """Learn the directions, let every site protect its features, and cut the pipeline's network behind them.

    A resumed run knows its directions; learning them again could give others.

    Raises
    ------
    PrivacyError
        If the directions of a bottleneck cannot be learned.
    """
    if pipeline.encoder is None:
        raise FederationError("Sharing features needs a frozen public backbone; this network has none.")
    asking = FeatureHub(hub)
    cut = cut_of(pipeline.encoder, config.preprocessing.size)
    minimized = known or learn_directions(asking, config, cut)
    shape = protected_shape(config.protection, cut, minimized)
    identity = Identity.generate()
    target = () if config.task.kind == "classification" else tuple(config.preprocessing.size or ())
    to_hub = config.head_at == "hub"
    allowed = {*range(class_count(config)), *([IGNORED] if target else [])}

    def opened(site: str, sealed: Arrays) -> Received:
        expected = {"encoder": cut.model, "protection": protection_digest(config, cut, minimized), "site": site}
        opened = open_release(sealed, identity, metadata=expected, shape=shape, target=target)
        if not set(np.unique(opened.targets).tolist()) <= allowed:
            raise ReplyError("targets", "targets must be classes of the plan")
        return _ordered(opened)

    received, releases = asking.release(
        {} if minimized is None else dict(minimized.to_arrays()),
        {"hub-key": identity.public_key()},
        opened if to_hub else None,
    )
    pipeline.cut_at(shape, seed=config.seed)
    return SharedFeatures(minimized, received, releases)


def check_releases(config: Config, shared: SharedFeatures) -> None:
    """Check that there is something to train on, under one key where there should be one.

    Raises
    ------
    FederationError
        If the hub trains the head and no site's release could be used.
    PrivacyError
        If sites hold different keys under custody of the federation.
    """
    releases = shared.releases
    if config.head_at == "hub" and not any(len(found.features) for found in shared.received.values()):
        reasons = "; ".join(f"{record.site}: {record.refused or 'nothing sent'}" for record in releases)
        raise FederationError(f"At least one site must release features the hub can use; none did ({reasons}).")
    keyed = config.protection.keyed
    if keyed is None or keyed.custody != "federation":
        return
    ids = {record.key_id for record in releases if not record.refused}
    if len(ids) > 1:
        held = ", ".join(f"{record.site}: {record.key_id}" for record in releases if not record.refused)
        raise PrivacyError(f"All sites must hold the federation's key; their key ids differ ({held}). Wrap it again.")


class HeadTrainer:
    """Trains the head at the hub on released features: one for all sites, or one for each key.

    Parameters
    ----------
    pipeline : Pipeline
    config : Config
    received : mapping of str to Received
    """

    def __init__(self, pipeline: Pipeline[Any], config: Config, received: Mapping[str, Received]) -> None:
        self._pipeline, self._config = pipeline, config
        self._studies = {site: _studies(found) for site, found in received.items() if len(found.features)}
        keyed = config.protection.keyed
        self._apart = keyed is not None and keyed.custody == "site"

    def start(self) -> Arrays:
        """Return the head or heads before the first round."""
        head = as_arrays(self._pipeline.network.shared_state())
        if not self._apart:
            return head
        return {f"{KEYS_PER_SITE}{site}/{name}": array for site in self._studies for name, array in head.items()}

    def train(self, number: int, rounds: int, model: Arrays) -> tuple[Trained, float]:
        """Make the configured number of passes over all released features.

        Returns
        -------
        trained : Trained
        loss : float
            Mean training loss of the last pass.
        """
        if not self._apart:
            pooled = [study for studies in self._studies.values() for study in studies]
            trained, loss = self._fit(number, rounds, model, pooled)
            return _usable(model, trained), loss
        heads: Arrays = {}
        losses = []
        for site, studies in self._studies.items():
            trained, loss = self._fit(number, rounds, self._head(model, site), studies)
            heads |= {f"{KEYS_PER_SITE}{site}/{name}": array for name, array in trained.items()}
            losses.append(loss)
        return _usable(model, heads), float(np.mean(losses))

    def _head(self, model: Arrays, site: str) -> Arrays:
        """Return the site's head so far; a site that was not there before begins with a new one."""
        if any(name.startswith(f"{KEYS_PER_SITE}{site}/") for name in model):
            return own_head(model, site)
        return as_arrays(self._pipeline.network.shared_state())

    def _fit(self, number: int, rounds: int, model: Arrays, studies: list[PreparedStudy]) -> tuple[Arrays, float]:
        network, training = self._pipeline.network, self._config.training
        load_arrays(network.shared_state(), {name: torch.from_numpy(array) for name, array in model.items()})
        loss = fit(
            self._pipeline,
            studies,
            training,
            Stretch(number, rounds, training.local_epochs, training.learning_rate),
            device=self._pipeline.device,
            rng=np.random.default_rng([self._config.seed, number]),
        )
        return as_arrays(network.shared_state()), loss


def _usable(before: Arrays, after: Arrays) -> Trained:
    """Return the new head, or the old one where some site's features made the new one useless."""
    if all(np.isfinite(array).all() for array in after.values()):
        return Trained(after, (), "")
    return Trained(before, (), "the trained head is not finite")


def _studies(found: Received) -> list[PreparedStudy]:
    """Return released studies as the training loop takes them; the hub knows neither subject nor file."""
    whole = found.targets.ndim == 1
    studies = []
    for index, (features, target) in enumerate(zip(found.features, found.targets, strict=True)):
        row = StudyRow(
            subject=f"released-{index}", study=f"released-{index}", site="", image="", target="", split="train"
        )
        label = torch.tensor(int(target)) if whole else torch.from_numpy(target.astype(np.uint8))
        studies.append(PreparedStudy(row, torch.from_numpy(features), label, (1.0,) * max(1, target.ndim)))
    return studies


def _ordered(found: Received) -> Received:
    """Return the studies by the hash of their content: a resumed run then trains in the same order."""
    keys = [
        hashlib.sha256(features.tobytes() + target.tobytes()).digest()
        for features, target in zip(found.features, found.targets, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return Received(found.features[order], found.targets[order], found.key_id)
