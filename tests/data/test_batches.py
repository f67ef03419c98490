import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.data.augmentation import Augmentation
from medfl.data.batches import epoch_batches, padded
from medfl.data.dataset import PreparedStudy
from medfl.data.manifest import StudyRow


def study(number: int, shape: tuple[int, ...]) -> PreparedStudy:
    rng = np.random.default_rng(number)
    target = torch.from_numpy(rng.integers(0, 3, shape).astype(np.uint8))
    target.view(-1)[0] = 0  # so that padding, which takes the darkest value, is background
    return PreparedStudy(
        StudyRow(subject=f"s{number}", study=f"v{number}"),
        target[None].float() + 10 * number,
        target,
        (1.0,) * len(shape),
    )


def vector(number: int) -> PreparedStudy:
    return PreparedStudy(StudyRow("s", f"v{number}"), torch.full((5,), float(number)), torch.tensor(number % 2), ())


def batches(
    studies: list[PreparedStudy], patch: tuple[int, ...] | None, size: int = 2, seed: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    return list(epoch_batches(studies, batch_size=size, patch=patch, augmentation=Augmentation(), rng=rng))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9), st.integers(1, 4), st.integers(0, 100))
def test_every_study_comes_once_and_the_last_batch_may_be_smaller(count: int, size: int, seed: int) -> None:
    found = batches([vector(number) for number in range(count)], None, size, seed)
    seen = [int(row[0]) for image, _ in found for row in image]
    assert sorted(seen) == list(range(count))
    assert [len(image) for image, _ in found[:-1]] == [size] * max(0, len(found) - 1)
    assert all(int(row[0]) % 2 == label for image, target in found for row, label in zip(image, target, strict=True))


def test_the_seed_decides_order_and_crops() -> None:
    studies = [study(number, (9, 11)) for number in range(6)]
    first, again, other = (batches(studies, (4, 4), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("shape", [(9, 11), (3, 11), (2, 3), (4, 4), (6, 5, 9), (2, 9, 3)])
def test_crops_have_the_size_of_the_patch_and_mask_and_image_agree(shape: tuple[int, ...]) -> None:
    patch = (4,) * len(shape)
    for image, target in batches([study(number, shape) for number in range(5)], patch):
        assert tuple(image.shape[1:]) == (1, *patch)
        assert target.shape == image.shape
        assert target.dtype == torch.int64
        for one, mask in zip(image, target, strict=True):
            base = torch.floor(one.min() / 10) * 10
            assert torch.equal(one - base, mask.float())


def test_studies_of_different_sizes_share_a_batch() -> None:
    ((image, _),) = batches([study(1, (3, 9)), study(2, (8, 2))], (4, 4))
    assert tuple(image.shape) == (2, 1, 4, 4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=2, max_size=3))
def test_padding_keeps_the_original_where_it_says(axes: list[tuple[int, int]]) -> None:
    shape, size = tuple(a for a, _ in axes), tuple(b for _, b in axes)
    tensor = torch.arange(float(2 * np.prod(shape))).view(2, *shape) + 1
    whole, inside = padded(tensor, size, -5.0)
    assert tuple(whole.shape[1:]) == tuple(map(max, shape, size))
    assert torch.equal(whole[(slice(None), *inside)], tensor)
    assert float(whole.sum()) == float(tensor.sum()) - 5.0 * (whole.numel() - tensor.numel())
