import numpy as np
import pytest
import torch

from medfl.attacks.permutation_recovery import evaluate_permutation_recovery, recover_positions, true_positions
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey

SHAPE = (8, 7, 7)


def case(shape: tuple[int, ...] = SHAPE, **options) -> tuple:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(10), 2)
    clear = generator.normal(size=(20, *shape))
    transform = KeyedNonlinearTransform(ContextKey(bytes(range(32))), shape, TransformSettings(**options))
    return transform, transform(torch.from_numpy(clear)).numpy(), clear, subjects


@pytest.mark.parametrize("shape", [(8, 14, 14), (8, 4, 5, 6)])
def test_one_image_gives_an_orthogonal_key_s_permutation_away(shape: tuple[int, ...]) -> None:
    (found,) = evaluate_permutation_recovery(*case(shape, mode="affine"), seed=0, known=(1,), repeats=3)
    assert found.ci_low >= 0.99
    assert found.chance == 1 / np.prod(shape[1:])


def test_a_nonlinear_key_needs_more_images() -> None:
    one, several = evaluate_permutation_recovery(*case(), seed=0, known=(1, 8, 99), repeats=5)
    assert one.value < several.value
    assert several.value > 0.9


def test_the_truth_is_what_the_transform_does() -> None:
    transform, released, clear, _ = case(mode="affine", mixer="none")
    target = true_positions(transform, SHAPE)
    assert sorted(target) == list(range(49))
    assert (target != np.arange(49)).any()
    np.testing.assert_allclose(released.reshape(20, 8, 49)[:, :, target], clear.reshape(20, 8, 49), atol=1e-6)


def test_released_noise_gives_chance() -> None:
    transform, released, clear, subjects = case()
    noise = np.random.default_rng(1).normal(size=released.shape)
    (found,) = evaluate_permutation_recovery(transform, noise, clear, subjects, seed=0, known=(4,), repeats=20)
    assert found.ci_low <= found.chance <= found.ci_high
    assert found.value < 0.08


def test_public_statistics_are_undone_first() -> None:
    _, _, clear, subjects = case()
    generator = np.random.default_rng(2)
    mean, scale = generator.normal(0, 5, size=8), generator.uniform(0.1, 9, size=8)
    wide = clear * scale[:, None, None] + mean[:, None, None]
    statistics = torch.from_numpy(mean), torch.from_numpy(scale)
    transform = KeyedNonlinearTransform(
        ContextKey(bytes(range(32))), SHAPE, TransformSettings(mode="affine"), *statistics
    )
    released = transform(torch.from_numpy(wide)).numpy()
    (found,) = evaluate_permutation_recovery(
        transform, released, wide, subjects, seed=0, known=(1,), repeats=3, mean=mean, scale=scale
    )
    assert found.value > 0.99


def test_arguments_that_do_not_fit_are_refused() -> None:
    transform, released, clear, subjects = case()
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate_permutation_recovery(transform, released, clear, subjects, seed=0, known=(0,))
    with pytest.raises(TooFewSubjectsError, match="11 known subjects"):
        evaluate_permutation_recovery(transform, released, clear, subjects, seed=0, known=(11,))
    with pytest.raises(ShapeError, match="one shape"):
        recover_positions(released, clear[:, :, :3])
    with pytest.raises(ShapeError, match="2 to 4096"):
        recover_positions(released[:, :, :1, :1], clear[:, :, :1, :1])
    with pytest.raises(ConfigError, match="only move positions"):
        true_positions(lambda features: features + features.mean(dim=(2, 3), keepdim=True), SHAPE)
