import pytest
import torch

from medfl.training.losses import IGNORED, classification_loss, segmentation_loss


@pytest.mark.parametrize("spatial", [(6, 5), (4, 5, 6)])
def test_ignored_voxels_have_no_gradient_and_the_others_have_one(spatial: tuple[int, ...]) -> None:
    logits = torch.randn(2, 3, *spatial, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.randint(0, 3, (2, 1, *spatial), generator=torch.Generator().manual_seed(1))
    target[:, :, 1:3] = IGNORED
    segmentation_loss()(logits, target).backward()
    assert logits.grad is not None
    assert bool((logits.grad[:, :, 1:3] == 0).all())
    assert bool((logits.grad[:, :, 3:].abs().sum(dim=1) > 0).all())


def test_what_stands_in_ignored_voxels_does_not_matter() -> None:
    logits = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    target = torch.ones(1, 1, 6, 6, dtype=torch.long)
    target[..., 0] = IGNORED
    other = logits.clone()
    other[..., 0] = 50.0
    assert segmentation_loss()(logits, target) == segmentation_loss()(other, target)


def test_the_target_is_not_changed() -> None:
    target = torch.tensor([[[[0, 1], [IGNORED, 1]]]])
    before = target.clone()
    segmentation_loss()(torch.randn(1, 2, 2, 2), target)
    assert torch.equal(target, before)


def test_a_perfect_segmentation_costs_almost_nothing_and_a_wrong_one_much() -> None:
    target = torch.tensor([[[[0, 1, 2], [2, 1, 0]]]])
    right = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1).float() * 40
    assert float(segmentation_loss()(right, target)) < 1e-4
    assert float(segmentation_loss()(right.flip(1), target)) > 5


def test_all_voxels_ignored_gives_a_finite_loss_without_gradient() -> None:
    logits = torch.randn(1, 2, 4, 4).requires_grad_()
    value = segmentation_loss()(logits, torch.full((1, 1, 4, 4), IGNORED))
    value.backward()
    assert bool(value.isfinite())
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


def test_cross_entropy_of_a_coin_is_log_two() -> None:
    loss = classification_loss()(torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]))
    assert float(loss) == pytest.approx(0.6931472)


def test_an_empty_batch_has_loss_zero_and_gradients_of_zero() -> None:
    weight = torch.ones(3, requires_grad=True)
    for loss, logits, target in (
        (segmentation_loss(), torch.zeros(0, 3, 4, 4) * weight.view(1, 3, 1, 1), torch.zeros(0, 1, 4, 4).long()),
        (classification_loss(), torch.zeros(0, 3) * weight, torch.zeros(0).long()),
    ):
        weight.grad = None
        value = loss(logits, target)
        value.backward()
        assert float(value.detach()) == 0
        assert torch.equal(weight.grad, torch.zeros(3))
