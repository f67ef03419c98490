"""Features under an old key to features under a new one, in the hands of somebody trusted with both."""

import torch
from torch import Tensor

from medfl.errors import PrivacyError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform


def rekeyed(features: Tensor, old: KeyedNonlinearTransform, new: KeyedNonlinearTransform) -> Tensor:
    """Return ``new(old.inverse(features))``: the same studies under the new key.

    Clear features exist in between, so this belongs to a site or a key service, never to the hub; nor does the composed
    map, which links every study of both keys. Transforms that cannot be undone (mode "folding") need a new release.

    Parameters
    ----------
    features : Tensor of shape (B, C, *spatial), float32
    old, new : KeyedNonlinearTransform
        Over equal shapes.

    Returns
    -------
    Tensor
        Same shape; equal to a new release of the same studies within rounding.

    Raises
    ------
    PrivacyError
        If both transforms have the same key.
    ConfigError
        If the old transform cannot be undone.
    ShapeError
        If the shapes do not fit.
    """
    if old.key_id == new.key_id:
        raise PrivacyError("Re-keying must lead to another key; both transforms have the same key id.")
    with torch.no_grad():
        moved: Tensor = new(old.inverse(features.double()))
    return moved.to(features.dtype)
