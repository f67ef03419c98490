"""Predictions on protected features: a site that holds the key, a hub that holds the head, and bytes between them."""

import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfl.config.settings import Config
from medfl.errors import EnvelopeError
from medfl.federation.program import Arrays
from medfl.privacy.envelope import EnvelopeKey, open_envelope, seal
from medfl.privacy.key_wrapping import Identity
from pipelines.custody import Custody
from pipelines.feature_program import own_head
from pipelines.minimization import Minimization
from pipelines.pipeline import Pipeline
from pipelines.protection import SiteProtection, cut_of
from pipelines.weights import load_arrays

_INFO = "medfl/inference"
_NUMBER_BYTES = 16


@dataclass(frozen=True)
class Question:
    """What leaves the site: one sealed study, and the key to it wrapped for the hub; `number` is random."""

    wrapped: bytes
    sealed: bytes
    number: str


class InferenceSite:
    """The site's side: encodes, protects, seals; it holds the keyed transform's key and no head.

    Parameters
    ----------
    pipeline : Pipeline
        For its preparation and its frozen encoder.
    config : Config
    minimized : Minimization or None
    custody : Custody
    site : str
    hub_key : str
        The hub's public key.
    """

    def __init__(
        self,
        pipeline: Pipeline[Any],
        config: Config,
        *,
        minimized: Minimization | None,
        custody: Custody,
        site: str,
        hub_key: str,
    ) -> None:
        if pipeline.encoder is None:
            raise EnvelopeError("Split inference needs a frozen backbone; this network has none.")
        self._encoder, self._device = pipeline.encoder, pipeline.device
        cut = cut_of(pipeline.encoder, config.preprocessing.size)
        self._protection = SiteProtection(config, cut, minimized, custody, site)
        self._site, self._hub_key = site, hub_key
        self._key = EnvelopeKey.generate()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one study's protected features."""
        return self._protection.shape

    @property
    def key_id(self) -> str:
        """Id of the keyed transform's key; empty without one."""
        return self._protection.key_id

    def ask(self, image: Tensor) -> Question:
        """Return a sealed question about one prepared image; equal images get equal noise."""
        with torch.inference_mode():
            features = self._encoder.eval()(image[None].to(self._device))[0].cpu()
        self._protection.charge(1)
        protected = self._protection.protect([features], ["inference"])[0]
        number = secrets.token_hex(_NUMBER_BYTES)
        sealed = seal({"features": protected.numpy()}, {**self._metadata(), "number": number}, self._key)
        return Question(self._key.wrap(self._hub_key, _INFO), sealed, number)

    def read(self, answer: bytes, question: Question) -> tuple[Tensor, Tensor]:
        """Return probabilities and their spread from the hub's sealed answer.

        Raises
        ------
        EnvelopeError
            If it was changed, or answers another question.
        """
        arrays, _ = open_envelope(answer, self._key, {"kind": "answer", "number": question.number})
        return torch.from_numpy(arrays["probabilities"]), torch.from_numpy(arrays["spread"])

    def _metadata(self) -> dict[str, str]:
        return {"kind": "question", "kid": self._protection.key_id, "site": self._site}


class InferenceHub:
    """The hub's side: opens, predicts, seals the answer; it holds the head and no key of a transform.

    Parameters
    ----------
    pipeline : Pipeline
        Cut at the shape of protected features.
    model : dict of str to ndarray
        The head, or one head for each site.
    """

    def __init__(self, pipeline: Pipeline[Any], model: Arrays) -> None:
        self._pipeline, self._model = pipeline, model
        self._identity = Identity.generate()

    @property
    def public_key(self) -> str:
        """What a site wraps its envelope key for."""
        return self._identity.public_key()

    def answer(self, question: Question, shape: tuple[int, ...]) -> bytes:
        """Return the sealed probabilities of one study.

        Raises
        ------
        EnvelopeError
            If the question was changed, or does not hold finite features of this shape.
        """
        key = EnvelopeKey.unwrap(question.wrapped, self._identity, _INFO)
        arrays, facts = open_envelope(question.sealed, key, {"kind": "question"})
        features = arrays.get("features")
        right = features is not None and features.shape == shape and features.dtype == np.float32
        if features is None or not right or not np.isfinite(features).all():
            raise EnvelopeError(f"A question must hold finite float32 features of shape {shape}; this one does not.")
        head = own_head(self._model, str(facts.get("site", "")))
        load_arrays(self._pipeline.network.shared_state(), {name: torch.from_numpy(a) for name, a in head.items()})
        ((probabilities, spread),) = self._pipeline.predict([torch.from_numpy(features)], 0)
        arrays = {"probabilities": probabilities.numpy(), "spread": spread.numpy()}
        return seal(arrays, {"kind": "answer", "number": str(facts.get("number", ""))}, key)
