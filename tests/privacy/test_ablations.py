import pytest
import torch

from medfl.errors import ConfigError, PrivacyError, ShapeError
from medfl.privacy.ablations import ChannelProjection, Quantization


def features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_projection_has_orthonormal_rows_that_follow_from_the_seed() -> None:
    matrix = ChannelProjection(20, 5, seed=1).matrix
    assert torch.allclose(matrix @ matrix.T, torch.eye(5), atol=1e-6)
    assert torch.equal(matrix, ChannelProjection(20, 5, seed=1).matrix)
    assert not torch.allclose(matrix, ChannelProjection(20, 5, seed=2).matrix, atol=0.01)


@pytest.mark.parametrize("shape", [(6,), (6, 3, 2), (6, 2, 3, 2)])
def test_a_projection_keeps_everything_but_channels(shape: tuple[int, ...]) -> None:
    protector = ChannelProjection(6, 4, seed=0)
    assert protector(features(3, *shape)).shape == (3, 4, *shape[1:])
    assert protector.out_shape(shape) == (4, *shape[1:])
    assert protector(features(0, *shape)).shape == (0, 4, *shape[1:])


def test_a_projection_to_all_channels_keeps_lengths() -> None:
    clear = features(10, 8)
    assert torch.allclose(ChannelProjection(8, 8, seed=0)(clear).norm(dim=1), clear.norm(dim=1), atol=1e-5)


def test_a_projection_refuses_what_it_cannot_do() -> None:
    for directions in (0, 9):
        with pytest.raises(ConfigError, match="must keep 1 to 8"):
            ChannelProjection(8, directions, seed=0)
    with pytest.raises(ShapeError, match="must have 8 channels"):
        ChannelProjection(8, 2, seed=0)(features(1, 7))


@pytest.mark.parametrize("bits", range(1, 9))
def test_quantized_features_take_that_many_values_and_are_off_by_half_a_step(bits: int) -> None:
    clear = torch.linspace(-4, 4, 4001).reshape(1, -1)
    found = Quantization(bits)(clear)
    assert len(found.unique()) == 2**bits
    assert float((found - clear).abs().max()) <= 4 / 2**bits + 1e-6
    assert torch.equal(Quantization(bits)(found), found)


def test_with_one_bit_only_the_sign_remains() -> None:
    clear = features(4, 5, 3, 3) * 10
    assert torch.equal(Quantization(1)(clear), torch.where(clear >= 0, 2.0, -2.0))


def test_values_beyond_the_range_go_to_the_outer_steps() -> None:
    assert Quantization(2)(torch.tensor([[-1e6, 1e6]])).tolist() == [[-3.0, 3.0]]


def test_bits_out_of_range_are_refused() -> None:
    for bits in (0, 9):
        with pytest.raises(ConfigError, match="bits must be 1 to 8"):
            Quantization(bits)


def test_features_that_are_not_finite_are_refused() -> None:
    for protector in (Quantization(4), ChannelProjection(2, 1, seed=0)):
        with pytest.raises(PrivacyError, match="must be finite"):
            protector(torch.tensor([[float("nan"), 0.0]]))


def test_nothing_of_them_is_exchanged() -> None:
    assert not Quantization(4).state_dict()
    assert not ChannelProjection(4, 2, seed=0).state_dict()
