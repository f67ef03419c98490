from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.viewer.reduction import block_labels, block_means, factors_for, reduced_affine, reduced_shape

lengths = st.tuples(*[st.integers(1, 9)] * 3)
blocks = st.tuples(*[st.integers(1, 4)] * 3)


@given(lengths, blocks, st.integers(0, 2**32 - 1))
def test_every_block_has_the_mean_of_its_voxels(shape, factors, seed) -> None:  # type: ignore[no-untyped-def]
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    joined = block_means(array, factors)
    assert joined.dtype == np.float32
    for index in np.ndindex(joined.shape):
        block = array[tuple(slice(at * by, (at + 1) * by) for at, by in zip(index, factors, strict=True))]
        assert joined[index] == pytest.approx(block.mean(), abs=1e-5)


@given(lengths, blocks, st.integers(0, 2**32 - 1))
def test_every_block_has_its_commonest_label(shape, factors, seed) -> None:  # type: ignore[no-untyped-def]
    mask = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    joined = block_labels(mask, factors)
    for index in np.ndindex(joined.shape):
        block = mask[tuple(slice(at * by, (at + 1) * by) for at, by in zip(index, factors, strict=True))]
        votes = np.bincount(block.reshape(-1), minlength=4)
        assert votes[joined[index]] == votes.max()


def test_a_structure_wins_a_tie_with_the_background() -> None:
    assert block_labels(np.array([[[0, 7]]], np.uint8), (1, 1, 2)) == 7


def test_integers_stay_integers_and_are_rounded() -> None:
    joined = block_means(np.array([[[1, 2, 2, 30]]], np.int16), (1, 1, 4))
    assert joined.dtype == np.int16
    assert joined.item() == 9


@given(st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.floats(0.3, 6)] * 3), st.integers(1, 5000))
def test_what_is_left_fits_and_no_factor_is_needless_for_small_images(shape, spacing, largest) -> None:  # type: ignore[no-untyped-def]
    factors = factors_for(shape, spacing, largest)
    assert prod(reduced_shape(shape, factors)) <= largest
    if prod(shape) <= largest:
        assert factors == (1, 1, 1)


def test_the_finest_axis_is_joined_first() -> None:
    assert factors_for((10, 100, 100), (5.0, 0.5, 0.7), 50_000) == (1, 2, 1)


def test_a_block_lies_where_the_middle_of_its_voxels_lies() -> None:
    affine = np.array([[0, 0, 3.0, 5], [-2.0, 0, 0, 6], [0, 1.0, 0, 7], [0, 0, 0, 1]])
    joined = reduced_affine(affine, (1, 2, 3))
    middle = affine @ [3 * 4 + 1, 2 * 5 + 0.5, 6, 1]
    assert joined @ [4, 5, 6, 1] == pytest.approx(middle)
