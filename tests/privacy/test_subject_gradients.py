import pytest
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from medfl.errors import ShapeError
from medfl.networks.backbones import unet
from medfl.networks.heads import map_head, pooling_head, vector_head, voxel_head
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.gradient_choice import TOLERANCE, gradients_of, try_methods
from medfl.privacy.protector import NoProtection
from medfl.privacy.subject_gradients import METHODS, Loss, SubjectBatch, by_loop, by_outer_products, trainable
from medfl.training.losses import classification_loss

OWNERS = {"one study each": [0, 1, 2, 3], "several studies": [0, 0, 1, 2, 2, 2]}


def dice_per_study() -> Loss:
    both = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        value: Tensor = both(logits, target)
        return value

    return loss


def split_unet(
    dimensions: int, norm: str = "instance", units: int = 2, dropout: float = 0.0, channels: int = 1
) -> SplitNetwork:
    backbone = unet(
        dimensions=dimensions,
        in_channels=channels,
        features=4,
        channels=(4, 8),
        strides=(2,),
        residual_units=units,
        norm=norm,
        dropout=dropout,
    )
    return SplitNetwork(
        backbone, NoProtection(), voxel_head(dimensions=dimensions, features=4, classes=3), frozen_backbone=False
    )


def head_only(head: nn.Module) -> SplitNetwork:
    return SplitNetwork(nn.Identity(), NoProtection(), head, frozen_backbone=True)


def frozen_with_batch_norm() -> SplitNetwork:
    backbone = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
    head = pooling_head(features=3, classes=2, dropout=0.0)
    return SplitNetwork(backbone, NoProtection(), head, frozen_backbone=True)


SUPPORTED = {
    "linear head": (head_only(vector_head(features=20, classes=2, dropout=0.0)), (20,), "labels"),
    "linear head with dropout": (head_only(vector_head(features=20, classes=2, dropout=0.4)), (20,), "labels"),
    "hidden head": (head_only(vector_head(features=20, classes=3, dropout=0.0, hidden=8)), (20,), "labels"),
    "pooling head": (head_only(pooling_head(features=6, classes=2, dropout=0.0)), (6, 4, 4), "labels"),
    "hidden pooling head": (head_only(pooling_head(features=6, classes=2, dropout=0.2, hidden=5)), (6, 4, 4), "labels"),
    "map head": (head_only(map_head(features=6, classes=3, hidden=4, stride=4)), (6, 4, 4), "mask"),
    "frozen convolutions": (frozen_with_batch_norm(), (1, 8, 8), "labels"),
    "U-Net 2-D": (split_unet(2), (1, 16, 16), "mask"),
    "U-Net 2-D without units": (split_unet(2, units=0, channels=3), (3, 16, 16), "mask"),
    "U-Net 2-D one unit": (split_unet(2, units=1), (1, 16, 16), "mask"),
    "U-Net 2-D group": (split_unet(2, norm="group"), (1, 16, 16), "mask"),
    "U-Net 3-D": (split_unet(3), (1, 8, 8, 8), "mask"),
    "U-Net 3-D dropout": (split_unet(3, dropout=0.3), (1, 8, 8, 8), "mask"),
}
"""Networks that `pipelines.build` makes for every configuration but batch normalization, small."""


def batch_for(network: nn.Module, shape: tuple[int, ...], kind: str, owner: list[int]) -> SubjectBatch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(len(owner), *shape, generator=generator)
    with torch.no_grad():
        logits = network(image)
    size = (len(owner),) if kind == "labels" else (len(owner), 1, *logits.shape[2:])
    target = torch.randint(0, logits.shape[1], size, generator=generator)
    return SubjectBatch(image, target, torch.tensor(owner))


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("name", SUPPORTED)
def test_every_network_has_a_batched_method_that_equals_the_loop(name: str, owner: list[int]) -> None:
    network, shape, kind = SUPPORTED[name]
    network.train()
    batch = batch_for(network, shape, kind, owner)
    loss = classification_loss() if kind == "labels" else dice_per_study()
    trials = {trial.method: trial for trial in try_methods(network, loss, batch, repeats=1)}
    assert trials["loop"].difference == 0.0
    assert trials["copies"].refused == ""
    assert trials["copies"].difference <= TOLERANCE
    assert all(trial.refused or trial.difference <= TOLERANCE for trial in trials.values())
    vectors = "linear head" in name or name == "hidden head"
    assert (trials["outer products"].refused == "") == (vectors or name in ("pooling head", "frozen convolutions"))
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", ["linear head", "hidden head", "U-Net 2-D", "U-Net 3-D"])
def test_hooks_equal_the_loop_and_leave_nothing_behind(name: str) -> None:
    network, shape, kind = SUPPORTED[name]
    network.train()
    batch = batch_for(network, shape, kind, OWNERS["several studies"])
    loss = classification_loss() if kind == "labels" else dice_per_study()
    trials = {trial.method: trial for trial in try_methods(network, loss, batch, repeats=1)}
    assert trials["hooks"].refused == ""
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert not any(hasattr(p, "grad_sample") for p in network.parameters())


def test_the_gradient_of_a_subject_is_the_mean_over_its_studies() -> None:
    network = head_only(vector_head(features=5, classes=2, dropout=0.0)).train()
    loss = classification_loss()
    generator = torch.Generator().manual_seed(0)
    image, target = torch.randn(3, 5, generator=generator), torch.tensor([0, 1, 1])
    alone = [
        torch.autograd.grad(loss(network(image[i : i + 1]), target[i : i + 1]), trainable(network)) for i in range(3)
    ]
    for method in METHODS.values():
        found = gradients_of(network, method, loss, SubjectBatch(image, target, torch.tensor([0, 0, 1])))
        for index, one in enumerate(found):
            torch.testing.assert_close(one[0], (alone[0][index] + alone[1][index]) / 2)
            torch.testing.assert_close(one[1], alone[2][index])


def test_parameters_that_a_study_does_not_use_have_no_gradient() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.used(image)
            return logits

    network = Partly().train()
    batch = SubjectBatch(torch.randn(3, 4), torch.tensor([0, 1, 0]), torch.arange(3))
    for name in ("loop", "copies"):
        found = gradients_of(network, METHODS[name], classification_loss(), batch)
        assert not found[2].any()
        assert found[0].any()


def test_dropout_differs_between_the_studies_of_a_batch() -> None:
    network = head_only(vector_head(features=200, classes=2, dropout=0.5)).train()
    batch = SubjectBatch(torch.ones(2, 200), torch.tensor([0, 0]), torch.arange(2))
    for name in ("loop", "copies", "hooks", "outer products"):
        weight = gradients_of(network, METHODS[name], classification_loss(), batch)[0]
        assert not torch.equal(weight[0] == 0, weight[1] == 0)


def test_whole_subjects_are_kept_together_when_a_batch_is_cut() -> None:
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    batch = SubjectBatch(torch.arange(7.0)[:, None], torch.arange(7), owner)
    parts = list(batch.parts(3))
    assert [part.owner.tolist() for part in parts] == [[0, 0, 0], [0, 1, 1], [0]]
    assert torch.cat([part.target for part in parts]).tolist() == list(range(7))
    assert [part.subjects for part in batch.parts(1)] == [1, 1, 1, 1]
    assert list(SubjectBatch(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)).parts(3)) == []


@pytest.mark.parametrize("owner", [[1, 1, 2], [0, 2, 2], [0, 1, 0]])
def test_studies_without_a_clear_owner_are_refused(owner: list[int]) -> None:
    with pytest.raises(ShapeError, match="owner must ascend"):
        SubjectBatch(torch.zeros(3, 2), torch.zeros(3), torch.tensor(owner))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ShapeError, match="one length"):
        SubjectBatch(torch.zeros(3, 2), torch.zeros(2), torch.tensor([0, 1, 2]))


def test_outer_products_refuse_what_they_would_get_wrong() -> None:
    layer = nn.Linear(4, 4)
    twice = nn.Sequential(layer, layer, nn.Linear(4, 2)).train()
    convolution = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(4, 2)).train()
    batch = SubjectBatch(torch.randn(2, 4), torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(ShapeError, match="once"):
        list(by_outer_products(twice, classification_loss(), batch))
    with pytest.raises(ShapeError, match="linear layers"):
        list(by_outer_products(convolution, classification_loss(), batch))
    assert not layer._forward_hooks
    assert len(list(by_loop(twice, classification_loss(), batch))) == 2
