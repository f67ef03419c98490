import numpy as np
import pytest
import torch

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.standardization import Standardization, clipped_normal, from_batch_norm

BETA = np.array([-6.0, -1.0, -0.1, 0.0, 0.7, 2.9, 3.1, 5.5, 6.0, 9.0])
GAMMA = np.array([1.5, 0.5, 2.0, 1.0, 0.05, 4.0, 0.3, 1.0, 2.0, 1.5])


def test_the_closed_form_agrees_with_monte_carlo() -> None:
    draws = np.clip(BETA + GAMMA * np.random.default_rng(0).standard_normal((400_000, len(BETA))), 0, 6)
    mean, std = clipped_normal(BETA, GAMMA)
    assert np.abs(draws.mean(axis=0) - mean).max() < 0.02
    assert std == pytest.approx(draws.std(axis=0), rel=0.15, abs=0.003)
    assert std[1:9] == pytest.approx(draws.std(axis=0)[1:9], rel=0.02)


def test_the_closed_form_agrees_with_a_fine_sum() -> None:
    grid = np.linspace(-12, 12, 200_001)[:, None]
    weights = np.exp(-0.5 * grid**2)
    weights /= weights.sum()
    clipped = np.clip(BETA + GAMMA * grid, 0, 6)
    expected = (weights * clipped).sum(axis=0)
    mean, std = clipped_normal(BETA, GAMMA)
    assert mean == pytest.approx(expected, rel=1e-5)
    assert std == pytest.approx(np.sqrt((weights * (clipped - expected) ** 2).sum(axis=0)), rel=1e-5)


def test_far_from_the_bounds_nothing_is_clipped_and_far_outside_everything() -> None:
    mean, std = clipped_normal(np.array([3.0, -50.0, 50.0]), np.array([0.1, 1.0, 1.0]))
    assert mean == pytest.approx([3.0, 0.0, 6.0])
    assert std == pytest.approx([0.1, 0.0, 0.0])


def test_a_channel_without_spread_has_its_clipped_shift() -> None:
    mean, std = clipped_normal(np.array([-1.0, 0.5, 7.0]), np.zeros(3))
    assert mean.tolist() == [0.0, 0.5, 6.0]
    assert std.tolist() == [0.0, 0.0, 0.0]


def test_pooled_features_of_the_assumed_network_get_unit_scale() -> None:
    generator = np.random.default_rng(0)
    positions, n, rho = 49, 4000, 0.3
    common = generator.standard_normal((n, 1, 2))
    own = generator.standard_normal((n, positions, 2))
    beta, gamma = np.array([3.0, 2.8]), np.array([0.4, 0.3])  # hardly clipped, so values correlate as inputs do
    normal = beta + gamma * (np.sqrt(rho) * common + np.sqrt(1 - rho) * own)
    pooled = torch.from_numpy(np.clip(normal, 0, 6).mean(axis=1))
    found = from_batch_norm(beta, gamma, positions)(pooled).numpy()
    assert found.mean(axis=0) == pytest.approx([0, 0], abs=0.05)
    assert found.std(axis=0) == pytest.approx([1, 1], abs=0.05)


def test_the_sign_of_the_scale_does_not_matter_and_one_position_is_not_pooled() -> None:
    one = from_batch_norm(BETA, GAMMA, 1)
    assert torch.equal(one.scale, from_batch_norm(BETA, -GAMMA, 1).scale)
    assert one.scale.double().numpy() == pytest.approx(clipped_normal(BETA, GAMMA)[1], rel=1e-6)


@pytest.mark.parametrize("spatial", [(), (3, 2), (2, 3, 2)])
def test_every_channel_is_standardized_at_every_position(spatial: tuple[int, ...]) -> None:
    protector = Standardization(np.array([1.0, -2.0]), np.array([0.5, 4.0]))
    clear = torch.randn((3, 2, *spatial), generator=torch.Generator().manual_seed(0))
    found = protector(clear)
    assert found.dtype == torch.float32
    assert torch.allclose(found[:, 0], (clear[:, 0] - 1) / 0.5, atol=1e-4)
    assert torch.allclose(found[:, 1], (clear[:, 1] + 2) / 4, atol=1e-4)
    assert protector(clear[:0]).shape == (0, 2, *spatial)
    assert protector.out_shape((2, *spatial)) == (2, *spatial)


def test_nothing_of_it_is_exchanged() -> None:
    assert not Standardization(np.zeros(2), np.ones(2)).state_dict()


def test_statistics_that_do_not_fit_are_refused() -> None:
    for mean, scale in (
        (np.zeros(2), np.ones(3)),
        (np.zeros((2, 1)), np.ones((2, 1))),
        (np.zeros(2), np.array([1.0, -1.0])),
        (np.array([0.0, np.nan]), np.ones(2)),
    ):
        with pytest.raises(ShapeError, match="mean and scale"):
            Standardization(mean, scale)
    with pytest.raises(ShapeError, match="beta and gamma"):
        from_batch_norm(np.zeros(2), np.ones(3), 49)
    with pytest.raises(ConfigError, match="positions"):
        from_batch_norm(np.zeros(2), np.ones(2), 0)
    with pytest.raises(ShapeError, match="must have 2 channels"):
        Standardization(np.zeros(2), np.ones(2))(torch.zeros(1, 3))
