import copy

import numpy as np
import pytest
import torch

from medfl.errors import PrivacyError, ShapeError
from medfl.privacy.bottleneck import TaskBottleneck
from medfl.privacy.directions import Directions
from medfl.privacy.protector import FeatureProtector, NoProtection, ProtectorChain


class Doubling(FeatureProtector):
    name = "doubling"

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 2 * features


def bottleneck(channels: int = 6, k: int = 2) -> TaskBottleneck:
    generator = np.random.default_rng(0)
    return TaskBottleneck(Directions(generator.standard_normal(channels), generator.standard_normal((k, channels))))


def features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_vectors_become_their_scores() -> None:
    protector, clear = bottleneck(), features(5, 6)
    expected = protector.directions.scores(clear.double().numpy())
    assert protector(clear).double().numpy() == pytest.approx(expected, abs=1e-5)
    assert protector(clear).dtype == torch.float32


@pytest.mark.parametrize("spatial", [(4, 3), (2, 4, 3), (1, 1)])
def test_maps_become_the_scores_of_every_position(spatial: tuple[int, ...]) -> None:
    protector, clear = bottleneck(), features(3, 6, *spatial)
    found = protector(clear)
    assert found.shape == (3, 2, *spatial)
    positions = clear.flatten(2).movedim(1, 2).reshape(-1, 6)
    expected = protector(positions).reshape(3, -1, 2).movedim(2, 1).reshape(found.shape)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 6), (0, 6, 4, 4), (0, 6, 2, 4, 4)])
def test_an_empty_batch_is_legal(shape: tuple[int, ...]) -> None:
    assert bottleneck()(torch.zeros(shape)).shape == (0, 2, *shape[2:])


def test_what_is_promised_as_shape_comes_out() -> None:
    chain = ProtectorChain([Doubling(), bottleneck()])
    for shape in ((6,), (6, 4, 4), (6, 2, 4, 4)):
        assert chain(features(3, *shape)).shape[1:] == chain.out_shape(shape) == (2, *shape[1:])


def test_nothing_of_a_protector_is_exchanged() -> None:
    assert not ProtectorChain([bottleneck(), Doubling()]).state_dict()
    assert not list(bottleneck().parameters())


def test_a_copy_and_plain_arrays_give_the_same_scores() -> None:
    protector, clear = bottleneck(), features(5, 6)
    assert torch.equal(copy.deepcopy(protector)(clear), protector(clear))
    assert torch.equal(TaskBottleneck.from_arrays(protector.to_arrays())(clear), protector(clear))


def test_gradients_pass_to_the_backbone() -> None:
    clear = features(2, 6, 3, 3).requires_grad_()
    protector = bottleneck()
    protector(clear).sum().backward()
    assert clear.grad is not None
    assert torch.allclose(clear.grad[0, :, 0, 0], protector.matrix.sum(dim=0), atol=1e-5)


def test_other_channels_are_refused() -> None:
    for shape in ((3, 5), (3, 7, 2, 2)):
        with pytest.raises(ShapeError, match="must have 6 channels"):
            bottleneck()(torch.zeros(shape))
    with pytest.raises(ShapeError, match="must have 6 channels"):
        bottleneck().out_shape((5,))


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(PrivacyError, match="must be finite"):
        bottleneck()(torch.full((2, 6), float("nan")))


def test_a_chain_works_in_order_and_is_named_after_what_it_does() -> None:
    chain = ProtectorChain([bottleneck(), NoProtection(), Doubling()])
    clear = features(4, 6)
    assert torch.equal(chain(clear), 2 * bottleneck()(clear))
    assert chain.name == "bottleneck+doubling"


def test_an_empty_chain_protects_nothing_and_says_so() -> None:
    clear = features(4, 6)
    assert ProtectorChain([])(clear) is clear
    assert ProtectorChain([]).name == ProtectorChain([NoProtection()]).name == "none"
    assert ProtectorChain([]).out_shape((6, 2)) == (6, 2)
