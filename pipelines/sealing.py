"""Protected features in sealed envelopes, one for each study, and out of them again at the hub."""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from medfl.data.dataset import PreparedStudy
from medfl.errors import EnvelopeError
from medfl.federation.feature_hub import Received
from medfl.federation.program import Arrays
from medfl.privacy.envelope import EnvelopeKey, open_envelope, seal
from medfl.privacy.key_wrapping import Identity

WRAPPED = "key"
_STUDY = "study-"
_NAME_BYTES = 8
_INFO = "medfl/features"


def seal_release(studies: Sequence[PreparedStudy], *, recipient: str, metadata: Mapping[str, str]) -> Arrays:
    """Return one envelope for every study, and the key to them wrapped for the hub.

    Studies are shuffled and named at random; neither pseudonyms nor the site's own order leave.

    Parameters
    ----------
    studies : sequence of PreparedStudy
        With protected features.
    recipient : str
        The hub's public key.
    metadata : mapping of str to str
        Bound to every envelope as authenticated data: encoder, protection, key id, site.

    Returns
    -------
    dict of str to ndarray
        uint8 arrays.
    """
    key = EnvelopeKey.generate()
    sealed: Arrays = {WRAPPED: _bytes(key.wrap(recipient, _INFO))}
    order = np.array(sorted(range(len(studies)), key=lambda _: secrets.randbits(64)), dtype=np.int64)
    for index in order:
        study = studies[index]
        name = secrets.token_hex(_NAME_BYTES)
        arrays = {"features": study.image.numpy(), "target": study.target.numpy()}
        sealed[_STUDY + name] = _bytes(seal(arrays, {**metadata, "study": name}, key))
    return sealed


def open_release(
    sealed: Arrays, identity: Identity, *, metadata: Mapping[str, str], shape: tuple[int, ...], target: tuple[int, ...]
) -> Received:
    """Open every envelope of one site.

    Parameters
    ----------
    sealed : dict of str to ndarray
    identity : Identity
        The hub's own.
    metadata : mapping of str to str
        What every envelope must say.
    shape, target : tuple of int
        Of one study's features, and of its target: () or (H, W).

    Raises
    ------
    EnvelopeError
        If anything was changed, is missing, or is not what the plan asked for.
    """
    if WRAPPED not in sealed:
        raise EnvelopeError("A release must hold the wrapped key of its envelopes; it does not.")
    key = EnvelopeKey.unwrap(sealed[WRAPPED].tobytes(), identity, _INFO)
    features, targets, key_ids = [], [], set()
    for name in sorted(sealed):
        if name == WRAPPED:
            continue
        expected = {**metadata, "study": name.removeprefix(_STUDY)}
        arrays, facts = open_envelope(sealed[name].tobytes(), key, expected)
        one, own = arrays.get("features"), arrays.get("target")
        if one is None or own is None or one.shape != shape or own.shape != target:
            raise EnvelopeError(f"A study's features must have shape {shape} and its target {target}; one has not.")
        if one.dtype != np.float32 or not np.isfinite(one).all() or own.dtype.kind not in "iu":
            raise EnvelopeError(
                "Features must be finite float32 numbers and targets whole numbers; one study's are not."
            )
        key_ids.add(str(facts.get("kid", "")))
        features.append(one)
        targets.append(own)
    if not features:
        return Received(np.zeros((0, *shape), dtype=np.float32), np.zeros((0, *target), dtype=np.int64))
    if len(key_ids) > 1:
        raise EnvelopeError("All envelopes of one site must name the same key id; they do not.")
    return Received(np.stack(features), np.stack(targets).astype(np.int64), key_ids.pop())


def _bytes(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(data, dtype=np.uint8)
