import numpy as np
import pytest
import torch

from medfl.attacks.key_compromise import evaluate_key_compromise
from medfl.errors import ConfigError, ShapeError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey

SHAPES = pytest.mark.parametrize("shape", [(16,), (8, 3, 3)])


def case(shape: tuple[int, ...], key: int = 1, **options) -> tuple:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(6), 2)
    clear = generator.normal(size=(6, *shape)).repeat(2, axis=0) + 0.5 * generator.normal(size=(12, *shape))
    transform = KeyedNonlinearTransform(ContextKey(bytes([key] * 32)), shape, TransformSettings(**options))
    return transform, transform(torch.from_numpy(clear)).numpy(), clear, subjects


@SHAPES
def test_the_key_undoes_an_invertible_transform_exactly(shape: tuple[int, ...]) -> None:
    exact, descent = evaluate_key_compromise(*case(shape), seed=0, steps=150, draws=50)
    assert (exact.name, descent.name) == ("exact inverse", "gradient descent")
    assert exact.value <= exact.ci_high < 1e-8
    assert exact.further[0].value == exact.further[2].value == 1
    assert exact.value < descent.value < 0.6
    assert descent.further[1].value > exact.further[1].value
    assert exact.knowledge == "key"


def test_a_wrong_key_inverts_nothing() -> None:
    _, released, clear, subjects = case((16,))
    wrong = case((16,), key=2)[0]
    exact, _ = evaluate_key_compromise(wrong, released, clear, subjects, seed=0, steps=1, draws=50)
    assert exact.value > 0.9
    assert exact.further[0].value == 0


def test_without_an_inverse_only_gradients_are_left() -> None:
    found = evaluate_key_compromise(
        *case((16,), mode="folding", kappa=4.0, omega=(2.0, 4.0)), seed=0, steps=50, draws=50
    )
    assert [one.name for one in found] == ["gradient descent"]
    assert found[0].value > 0.3


def test_the_key_makes_pairs_to_learn_from_where_there_is_no_inverse() -> None:
    options = {"mode": "folding", "kappa": 1.5, "omega": (1.0, 2.0), "rounds": 1}
    transform, released, clear, subjects = case((16,), **options)
    own = np.random.default_rng(1).normal(size=(400, 16))
    found = evaluate_key_compromise(transform, released, clear, subjects, seed=0, steps=1, draws=50, own=own)
    learned = found[-1]
    assert (learned.name, learned.budget) == ("regression on self-made pairs", "400 pairs")
    assert learned.ci_high < 0.9
    wrong = case((16,), key=2, **options)[0]
    lost = evaluate_key_compromise(wrong, released, clear, subjects, seed=0, steps=1, draws=50, own=own)[-1]
    assert lost.value > 0.95


def test_a_single_number_is_named_by_its_size() -> None:
    _, _, clear, subjects = case((1,))
    transform = KeyedNonlinearTransform(ContextKey(bytes([1] * 32)), (1,), TransformSettings())
    exact = evaluate_key_compromise(
        transform, transform(torch.from_numpy(clear)).numpy(), clear, subjects, seed=0, steps=1, draws=50
    )[0]
    assert exact.further[2].value == 1


def test_statistics_give_gradients_their_unit() -> None:
    _, _, clear, subjects = case((16,))
    wide = 50 + 40 * clear
    mean, scale = torch.full((16,), 50.0), torch.full((16,), 40.0)
    transform = KeyedNonlinearTransform(ContextKey(bytes([1] * 32)), (16,), TransformSettings(), mean, scale)
    released = transform(torch.from_numpy(wide)).numpy()
    lost, found = (
        evaluate_key_compromise(transform, released, wide, subjects, seed=0, steps=100, draws=20, **given)[1].value
        for given in ({}, {"mean": mean.numpy(), "scale": scale.numpy()})
    )
    assert found < 0.5 * lost


def test_equal_seeds_give_equal_results_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    values = [evaluate_key_compromise(*case((16,)), seed=s, steps=5, draws=20)[1].further for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(state, torch.get_rng_state())


def test_arguments_that_do_not_fit_are_refused() -> None:
    transform, released, clear, subjects = case((16,))
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate_key_compromise(transform, released, clear, subjects, seed=0, steps=0)
    with pytest.raises(ShapeError, match="one shape"):
        evaluate_key_compromise(transform, released, clear[:, :4], subjects, seed=0)
    with pytest.raises(ShapeError, match="own features"):
        evaluate_key_compromise(transform, released, clear, subjects, seed=0, own=clear[:3])
    with pytest.raises(ShapeError, match="one per channel"):
        evaluate_key_compromise(transform, released, clear, subjects, seed=0, mean=[0.0])
