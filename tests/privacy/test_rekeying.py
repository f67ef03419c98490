import pytest
import torch

from medfl.errors import ConfigError, PrivacyError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import KeyContext, MasterKey
from medfl.privacy.rekeying import rekeyed

SHAPE = (8, 3, 3)


def transform(epoch: int, *, folding: bool = False) -> KeyedNonlinearTransform:
    chosen = TransformSettings(mode="folding", kappa=2.0) if folding else TransformSettings()
    context = KeyContext("t", "", "features", "m", "l", SHAPE, chosen.digest(), "federation", epoch)
    return KeyedNonlinearTransform(MasterKey(bytes(32), bytes(32)).derive(context), SHAPE, chosen)


def test_rekeyed_features_are_those_of_a_new_release() -> None:
    clear = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    old, new = transform(1), transform(2)
    torch.testing.assert_close(rekeyed(old(clear), old, new), new(clear), rtol=1e-3, atol=1e-3)
    assert float((old(clear) - new(clear)).abs().mean()) > 0.3


def test_the_same_key_is_refused() -> None:
    with pytest.raises(PrivacyError, match="another key"):
        rekeyed(torch.zeros(1, *SHAPE), transform(1), transform(1))


def test_a_transform_that_cannot_be_undone_needs_a_new_release() -> None:
    with pytest.raises(ConfigError):
        rekeyed(torch.zeros(1, *SHAPE), transform(1, folding=True), transform(2))
