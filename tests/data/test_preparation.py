import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.data.preparation import IGNORED, Preparation
from medfl.errors import ImageReadError
from medfl.imaging.volume import Volume


def preparation(
    *,
    dimensions: int = 3,
    channels: int = 1,
    size: tuple[int, ...] | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    intensity: str = "zscore",
    ignore_value: int | None = None,
) -> Preparation:
    return Preparation(
        dimensions,
        channels,
        size,
        spacing_mm,
        intensity,
        mask_values={4: 1, 200: 2},
        ignore_value=ignore_value,
        label_values={"normal": 0, "lesion": 1},
    )


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(array, np.diag([*spacing, 1.0]))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)


def refused(reason: str, array: np.ndarray, prepared: Preparation, *, mask: bool = False) -> None:
    with pytest.raises(ImageReadError) as caught:
        (prepared.mask if mask else prepared.image)(volume(array))
    assert caught.value.reason == reason


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 1e4), st.floats(-1e4, 1e4))
def test_zscore_forgets_brightness_and_contrast(gain: float, offset: float) -> None:
    array = noise(1, 6, 7, 8).astype(np.float64)
    plain = preparation().image(volume(array))
    changed = preparation().image(volume(array * gain + offset))
    assert plain.dtype == torch.float32
    assert float(plain.mean()) == pytest.approx(0, abs=1e-5)
    assert float(plain.std(correction=0)) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(changed, plain, rtol=0, atol=2e-2 if abs(offset) > 1e3 * gain else 2e-3)


def test_one_bright_voxel_does_not_darken_the_rest() -> None:
    array = noise(1, 12, 12, 12).astype(np.float32)
    spiked = array.copy()
    spiked[0, 0, 0, 0] = 1e7
    difference = (preparation().image(volume(array)) - preparation().image(volume(spiked))).abs().flatten()
    assert float(difference.median()) < 0.01


def test_an_image_of_one_value_is_zero_and_finite() -> None:
    assert bool((preparation().image(volume(np.full((1, 3, 3, 3), 7, np.int16))) == 0).all())


def test_unit_maps_eight_bits_to_minus_one_and_one() -> None:
    image = preparation(dimensions=2, intensity="unit").image(volume(np.array([[[0, 255]]], np.uint8)))
    assert image.tolist() == [[[-1.0, 1.0]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_the_way_voxels_lie_in_memory_does_not_matter(dtype: type[np.generic]) -> None:
    array = (noise(1, 5, 6, 7) % 250).astype(dtype)
    backwards = np.ascontiguousarray(array[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    transposed = np.asfortranarray(array)
    expected = preparation().image(volume(array))
    torch.testing.assert_close(preparation().image(volume(backwards)), expected, rtol=0, atol=0)
    torch.testing.assert_close(preparation().image(volume(transposed)), expected, rtol=0, atol=0)
    array.setflags(write=False)
    torch.testing.assert_close(preparation().image(volume(array)), expected, rtol=0, atol=0)


def test_preparing_changes_nothing_in_the_volume() -> None:
    array = noise(1, 4, 4, 4).astype(np.float32)
    before = array.copy()
    preparation().image(volume(array))
    preparation(intensity="unit").image(volume(array))
    np.testing.assert_array_equal(array, before)


def test_resampling_keeps_the_size_in_millimeters_and_the_places() -> None:
    array = np.zeros((1, 4, 6, 10), np.float32)
    array[0, :, :, 5:] = 100
    prepared = preparation(spacing_mm=(1.0, 1.0, 0.5), intensity="unit")
    image = prepared.image(volume(array, (1.0, 2.0, 3.0)))  # affine in (w, h, d)
    assert tuple(image.shape) == (1, 12, 12, 20)
    assert bool((image[..., :9] == -1).all())
    assert bool((image[..., 11:] > -1).all())
    mask = prepared.mask(volume((array > 0).astype(np.uint8) * 4, (1.0, 2.0, 3.0)))
    assert tuple(mask.shape) == (12, 12, 20)
    assert bool((mask[..., :10] == 0).all())
    assert bool((mask[..., 10:] == 1).all())


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 9)] * 2))
def test_image_and_mask_get_the_size_asked_for(before: tuple[int, int], after: tuple[int, int]) -> None:
    prepared = preparation(dimensions=2, size=after)
    assert tuple(prepared.image(volume(noise(1, *before))).shape) == (1, *after)
    mask = prepared.mask(volume(np.full((1, *before), 4, np.uint8)))
    assert tuple(mask.shape) == after
    assert bool((mask == 1).all())


def test_mask_values_become_classes_and_the_rest_background() -> None:
    mask = preparation(dimensions=2, ignore_value=127).mask(volume(np.array([[[0, 4, 200], [127, 5, 255]]], np.uint8)))
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [[0, 1, 2], [IGNORED, 0, 0]]


def test_resizing_a_mask_makes_no_new_classes() -> None:
    array = np.random.default_rng(0).choice([0, 4, 200, 127], (1, 11, 13)).astype(np.uint8)
    mask = preparation(dimensions=2, size=(7, 29), ignore_value=127).mask(volume(array))
    assert set(mask.unique().tolist()) == {0, 1, 2, IGNORED}


def test_a_mask_in_color_counts_if_its_channels_agree() -> None:
    grey = np.array([[[4, 0]]], np.uint8)
    assert preparation(dimensions=2).mask(volume(np.repeat(grey, 3, axis=0))).tolist() == [[1, 0]]
    refused("channels", np.array([[[4, 0]], [[0, 4]]], np.uint8), preparation(dimensions=2), mask=True)


def test_whole_numbers_may_be_stored_as_floats_and_fractions_may_not() -> None:
    assert preparation(dimensions=2).mask(volume(np.array([[[4.0, 200.0]]]))).tolist() == [[1, 2]]
    refused("label_fraction", np.array([[[4.5, 0.0]]]), preparation(dimensions=2), mask=True)
    refused("label_fraction", np.array([[[np.nan, 0.0]]]), preparation(dimensions=2), mask=True)


def test_images_of_another_kind_are_refused() -> None:
    refused("dimensions", noise(1, 4, 4), preparation())
    refused("dimensions", noise(1, 4, 4, 4), preparation(dimensions=2))
    refused("channels", noise(1, 4, 4), preparation(dimensions=2, channels=3))
    refused("channels", noise(7, 4, 4), preparation(dimensions=2))


def test_grey_is_taken_from_color() -> None:
    grey = noise(1, 4, 4)
    expected = preparation(dimensions=2).image(volume(grey))
    torch.testing.assert_close(preparation(dimensions=2).image(volume(np.repeat(grey, 3, axis=0))), expected)
    color = np.stack([grey[0], grey[0], 1000 - grey[0]])
    assert not torch.equal(preparation(dimensions=2).image(volume(color)), expected)


def test_labels_become_classes_and_unknown_ones_are_refused() -> None:
    assert preparation().label("lesion").item() == 1
    assert preparation().label("lesion").dtype == torch.int64
    with pytest.raises(ImageReadError) as caught:
        preparation().label("Zzyzx")
    assert caught.value.reason == "label_unknown"
    assert "Zzyzx" not in str(caught.value)


def test_the_digest_follows_everything_that_decides_the_result() -> None:
    variants = [
        preparation(),
        preparation(dimensions=2),
        preparation(channels=3),
        preparation(size=(2, 2, 2)),
        preparation(spacing_mm=(1, 1, 1)),
        preparation(intensity="unit"),
        preparation(ignore_value=9),
    ]
    assert len({variant.digest() for variant in variants}) == len(variants)
    assert preparation().digest() == preparation().digest()
