import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.data.augmentation import Augmentation, Draw, apply, draw


def batch(spatial: tuple[int, ...], count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.integers(0, 3, (count, 1, *spatial)).astype(np.uint8))
    return target.float() * 10 + 1, target


def drawn(augmentation: Augmentation, spatial: tuple[int, ...], count: int = 3, seed: int = 0) -> Draw:
    return draw(augmentation, spatial, count, np.random.default_rng(seed))


SPATIAL = [(9, 8), (7, 8, 6)]


@pytest.mark.parametrize("spatial", SPATIAL)
def test_without_augmentation_nothing_changes(spatial: tuple[int, ...]) -> None:
    image, target = batch(spatial)
    same, same_target = apply(Augmentation(), drawn(Augmentation(), spatial), image, target)
    assert torch.equal(same, image)
    assert torch.equal(same_target, target)


@pytest.mark.parametrize("spatial", SPATIAL)
def test_a_drawn_change_can_be_replayed_and_leaves_its_input_alone(spatial: tuple[int, ...]) -> None:
    all_of_it = Augmentation(
        flip_axes=(0, 1), flip=0.5, rotate=1.0, scale=1.0, intensity=1.0, noise=1.0, rotate_degrees=20
    )
    image, target = batch(spatial)
    before = image.clone(), target.clone()
    change = drawn(all_of_it, spatial)
    first, again = (apply(all_of_it, change, image, target) for _ in range(2))
    other = apply(all_of_it, drawn(all_of_it, spatial, seed=1), image, target)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(image, before[0])
    assert torch.equal(target, before[1])
    assert first[0].shape == image.shape
    assert (first[1].shape, first[1].dtype) == (target.shape, target.dtype)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(SPATIAL))
def test_flips_move_mask_and_image_together(seed: int, spatial: tuple[int, ...]) -> None:
    flips = Augmentation(flip_axes=tuple(range(len(spatial))), flip=0.5)
    image, target = apply(flips, drawn(flips, spatial, seed=seed), *batch(spatial))
    assert torch.equal(image, target.float() * 10 + 1)


def test_a_flip_mirrors_the_axis_it_names() -> None:
    flips = Augmentation(flip_axes=(1,), flip=1.0)
    image, target = batch((4, 5))
    moved, moved_target = apply(flips, drawn(flips, (4, 5)), image, target)
    assert torch.equal(moved, image.flip(3))
    assert torch.equal(moved_target, target.flip(3))


def test_turns_move_mask_and_image_together() -> None:
    turns = Augmentation(rotate=1.0, scale=1.0, rotate_degrees=25)
    image = torch.zeros(4, 1, 24, 24)
    image[..., 4:12, 6:20] = 1
    moved, target = apply(turns, drawn(turns, (24, 24), 4), image, image.to(torch.uint8))
    assert not torch.equal(target, image.to(torch.uint8))
    assert set(target.unique().tolist()) == {0, 1}
    assert float((moved.round() - target.float()).abs().mean()) < 0.02


def test_labels_of_whole_images_stay() -> None:
    all_of_it = Augmentation(flip_axes=(0,), flip=1.0, rotate=1.0, intensity=1.0, noise=1.0)
    image, _ = batch((8, 8))
    _, labels = apply(all_of_it, drawn(all_of_it, (8, 8)), image, torch.tensor([0, 1, 2]))
    assert labels.tolist() == [0, 1, 2]


def test_intensity_changes_stay_in_their_range_and_leave_masks_alone() -> None:
    changes = Augmentation(intensity=1.0)
    change = drawn(changes, (4, 4), 500)
    assert float(change.gain.min()) >= 0.8
    assert float(change.gain.max()) <= 1.2
    assert float(np.abs(change.offset).max()) <= 0.2
    image, target = batch((4, 4), 500)
    changed, same = apply(changes, change, image, target)
    torch.testing.assert_close(
        changed[7], image[7] * float(change.gain[7]) + float(change.offset[7]), rtol=1e-6, atol=1e-6
    )
    assert torch.equal(same, target)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_changes_act_as_often_as_asked(probability: float) -> None:
    changes = Augmentation(flip_axes=(0,), flip=probability, intensity=probability, noise=probability)
    change = drawn(changes, (4, 4), 4000)
    for share in (change.flips.mean(), (change.gain != 1).mean(), (change.noise > 0).mean()):
        assert float(share) == pytest.approx(probability, abs=0.04)
